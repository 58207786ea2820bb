"""A shop that is paid with a lease, and the provider's events; also a URLconf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import CallRefused
from django_idempotency.http import IdempotentRequest
from django_idempotency.tasks import current_operation
from django_idempotency.webhooks import (
    Event,
    PermanentError,
    WebhookView,
    on,
    providers,
)
from tests.support.deliveries import SECRET
from tests.testapp.models import Order

keys: dict[str, str] = {}
"""By cart, under which key the bank was asked."""
known_charges: set[str] = set()
"""Whose orders the shop has found meanwhile."""


class Declined(Exception):
    pass


@idempotent(lease=timedelta(minutes=1), wait=timedelta(0))
def pay(request: IdempotentRequest) -> HttpResponse:
    cart, bank = request.POST["cart"], request.POST.get("bank", "answers")

    def charge(key: str) -> dict[str, str]:
        keys[cart] = key
        if bank == "silent":
            raise TimeoutError
        if bank == "declines":
            raise Declined("insufficient funds")
        return {"id": f"ch_{cart}"}

    operation = request.idempotency
    operation.about(f"cart {cart}", amount="46.82 EUR", label=f"Cart {cart}")
    operation.about(request.user)  # type: ignore[arg-type]
    try:
        charged = operation.call(
            "charge",
            charge,
            if_unknown="hold",
            refused=Declined,
            reference=f"pi_{cart}",
        )
    except CallRefused as declined:
        return JsonResponse({"error": str(declined)}, status=402)
    order = operation.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({"order": order, "charge": charged["id"]}, status=201)


@idempotent
def fail(request: IdempotentRequest) -> HttpResponse:
    raise LookupError("the warehouse does not answer")


def charge_of(event: Event) -> Any:
    return {"id": event.object_key} if event.type == "charge.succeeded" else None


class Events(WebhookView):
    """Books each charge; one that no order has is given up."""

    profile = providers.STRIPE
    secrets = SECRET
    endpoint = "shop"
    settles = "charge"
    result = staticmethod(charge_of)

    @on("charge.succeeded")
    def paid(self, event: Event) -> None:
        current_operation().about(f"cart {event.object_key.removeprefix('ch_')}")

    @on("charge.failed")
    def failed(self, event: Event) -> None:
        if event.object_key not in known_charges:
            raise PermanentError(f"no order has the charge {event.object_key}")


class Books(Events):
    """Later, by a worker."""

    endpoint = "books"
    inbox = True


class Broken(WebhookView):
    profile = providers.STRIPE
    secrets = SECRET
    endpoint = "broken"

    @on("charge.succeeded")
    def paid(self, event: Event) -> None:
        raise LookupError("the books are closed")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("pay/", pay),
    path("fail/", fail),
    path("stripe/", Events.as_view()),
    path("books/", Books.as_view()),
    path("broken/", Broken.as_view()),
]
