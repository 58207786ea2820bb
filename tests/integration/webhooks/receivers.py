"""The receivers that the tests deliver to; also a URLconf.

Each handler writes one order, so that orders are executions that were committed. `scene`
says what else happens. Their names are "tested-…", since a process has one register
of names.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.urls import path
from rest_framework.authentication import BasicAuthentication
from rest_framework.permissions import IsAdminUser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.versioning import AcceptHeaderVersioning

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, WebhookView, on, providers, webhook
from django_idempotency.webhooks.inbox import Step, process_next
from django_idempotency.webhooks.rest_framework import WebhookAPIView
from tests.support.deliveries import ADYEN_SECRET, SECRET
from tests.testapp.models import Order

marks = [pytest.mark.django_db(transaction=True), pytest.mark.urls(__name__)]

PUBLIC_URL = "https://shop.example/square/"


class Scene:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.events: list[Event] = []
        """With what the handlers were called, whatever became of it."""
        self.failures: deque[Exception] = deque()
        """What the next calls raise, after the order was written."""
        self.act: Callable[[Event], Any] = lambda event: None
        """What a handler does and returns after it has written the order."""

    @property
    def handled(self) -> list[str]:
        return [event.id for event in self.events]


scene = Scene()


def handle(event: Event) -> Any:
    scene.events.append(event)
    Order.objects.create(amount=len(event.raw))
    if scene.failures:
        raise scene.failures.popleft()
    return scene.act(event)


def failing_secrets() -> str:
    raise KeyError("WEBHOOK_SECRET")


def kind_and_object(event: Event) -> str:
    return f"{event.type}|{event.object_key}"


def returned_by_the_scene(event: Event) -> Any:
    return scene.act(event)


class Payments(WebhookView):
    """Routes by type."""

    profile = providers.STRIPE
    secrets = SECRET
    endpoint = "tested-payments"

    @on("invoice.paid", "invoice.settled")
    def paid(self, event: Event) -> Any:
        return handle(event)


class RestPayments(WebhookAPIView):
    profile = providers.STRIPE
    secrets = SECRET
    endpoint = "tested-rest-payments"

    @on("invoice.paid", "invoice.settled")
    def paid(self, event: Event) -> Any:
        return handle(event)


class StoredRestPayments(RestPayments):
    endpoint = "tested-rest-inbox"
    inbox = True


class StrictPayments(RestPayments):
    """With everything that may refuse a request before its view."""

    endpoint = "tested-strict-payments"
    authentication_classes = (BasicAuthentication,)
    permission_classes = (IsAdminUser,)
    renderer_classes = (JSONRenderer,)
    versioning_class = AcceptHeaderVersioning


class CuriousPayments(RestPayments):
    """Looks at the parsed body first."""

    endpoint = "tested-curious-payments"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method == "POST":
            data: Any = request.data
            assert data["id"]


class NoDebits(Payments):
    """Handles none of the provider's types."""

    profile = providers.GOCARDLESS
    endpoint = "tested-no-debits"


class StoredPayments(Payments):
    endpoint = "tested-stored-payments"
    inbox = True


small = replace(providers.STRIPE, max_body=2000)

by_object: dict[str, Any] = {"identity": kind_and_object}

urlpatterns = [
    path(
        f"{name}/",
        webhook(profile, endpoint=f"tested-{name}", **{"secrets": SECRET, **options})(
            handle
        ),
    )
    for name, profile, options in (
        ("inline", providers.STRIPE, {}),
        ("second", providers.STRIPE, {}),
        ("limited", providers.STRIPE, {"max_attempts": 5}),
        ("small", small, {}),
        ("inbox", providers.STRIPE, {"inbox": True}),
        ("limited-inbox", providers.STRIPE, {"inbox": True, "max_attempts": 2}),
        ("ordered", providers.STRIPE, {"inbox": True, "ordered": True}),
        ("live", providers.STRIPE, {"livemode": True}),
        ("test", providers.STRIPE, {"livemode": False}),
        ("live-inbox", providers.STRIPE, {"livemode": True, "inbox": True}),
        ("live-adyen", providers.ADYEN, {"livemode": True, "secrets": ADYEN_SECRET}),
        ("by-object", providers.STRIPE, by_object),
        ("by-object-inbox", providers.STRIPE, {**by_object, "inbox": True}),
        ("by-nothing", providers.STRIPE, {"identity": returned_by_the_scene}),
        ("rotating", providers.STRIPE, {"secrets": lambda: ["newer", SECRET]}),
        ("without-secret", providers.STRIPE, {"secrets": ["", " "]}),
        ("failing-secrets", providers.STRIPE, {"secrets": failing_secrets}),
        ("github", providers.GITHUB, {"inbox": True}),
        ("gocardless", providers.GOCARDLESS, {}),
        ("gocardless-inbox", providers.GOCARDLESS, {"inbox": True}),
        ("adyen", providers.ADYEN, {"secrets": ADYEN_SECRET}),
        ("slack", providers.SLACK, {}),
        ("square", providers.SQUARE, {"url": PUBLIC_URL}),
    )
]
urlpatterns += [
    path("payments/", Payments.as_view()),
    path("no-debits/", NoDebits.as_view()),
    path("stored-payments/", StoredPayments.as_view()),
    path("rest/", RestPayments.as_view()),
    path("strict/", StrictPayments.as_view()),
    path("curious/", CuriousPayments.as_view()),
    path("rest-inbox/", StoredRestPayments.as_view()),
]


# What became of the events, as the database says.


def only() -> ProcessedEvent:
    return ProcessedEvent.objects.get()


def states() -> dict[str, str]:
    """The state of each event, by the provider's id."""
    return dict(ProcessedEvent.objects.values_list("event_id", "state"))


def make_due() -> None:
    """As if the time until the next attempt were over."""
    ProcessedEvent.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())


def let_expire(*, after: timedelta) -> None:
    """As if so much time had passed since the deliveries."""
    ProcessedEvent.objects.update(
        expires_at=F("expires_at") - after, received_at=F("received_at") - after
    )


def steps() -> list[Step]:
    """Take steps until nothing is due."""
    taken: list[Step] = []
    while (one := process_next()) is not Step.NOTHING_DUE:
        taken.append(one)
    return taken
