"""A URLconf whose views count what they have done; what they are sent is fuzzed."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.webhooks import Event, providers, webhook
from tests.support.deliveries import ADYEN_SECRET, SECRET
from tests.testapp.models import Order


def pay(request: HttpRequest, *args: Any, **more: Any) -> HttpResponse:
    order = Order.objects.create(amount=1)
    return JsonResponse({"order": order.pk, "told": len(request.body)}, status=201)


def handled(event: Event) -> None:
    json.dumps(event.data)
    Order.objects.create(amount=1)


RECEIVED = {
    "stripe": (providers.STRIPE, SECRET),
    "adyen": (providers.ADYEN, ADYEN_SECRET),
    "gocardless": (providers.GOCARDLESS, SECRET),
    "slack": (providers.SLACK, SECRET),
    "github": (providers.GITHUB, SECRET),
    "twilio": (providers.TWILIO, SECRET),
}

urlpatterns = [
    path("pay/", idempotent(pay)),
    path("pay/optional/", idempotent(required=False)(pay)),
    path("pay/leased/", idempotent(lease=timedelta(minutes=1))(pay)),
    path("pay/window/", idempotent(intent_window=timedelta(hours=1))(pay)),
    *[
        path(
            f"hook/{name}/{mode}/",
            webhook(
                profile,
                secrets=secret,
                endpoint=f"fuzz-{name}-{mode}",
                inbox=mode == "inbox",
            )(handled),
        )
        for name, (profile, secret) in RECEIVED.items()
        for mode in ("inline", "inbox")
    ],
]
