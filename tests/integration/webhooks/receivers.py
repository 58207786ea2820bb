"""The receivers that the tests deliver to; also a URLconf.

Each handler writes one order, so that orders are executions that were committed. `scene`
says what else happens. Their names are "tested-…", since a process has one register
of names.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.urls import path

from django_idempotency.webhooks import Event, WebhookView, on, providers, webhook
from tests.deliveries import ADYEN_SECRET, SECRET
from tests.testapp.models import Order

__all__ = ["PUBLIC_URL", "Scene", "scene", "urlpatterns"]

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


class StoredPayments(Payments):
    endpoint = "tested-stored-payments"
    inbox = True


hasty = replace(providers.STRIPE, acknowledge_within=timedelta(milliseconds=200))
small = replace(providers.STRIPE, max_body=2000)

urlpatterns = [
    path(f"{name}/", webhook(profile, endpoint=f"tested-{name}", **options)(handle))
    for name, profile, options in (
        ("inline", providers.STRIPE, {"secrets": SECRET}),
        ("second", providers.STRIPE, {"secrets": SECRET}),
        ("limited", providers.STRIPE, {"secrets": SECRET, "max_attempts": 5}),
        ("hasty", hasty, {"secrets": SECRET}),
        ("small", small, {"secrets": SECRET}),
        ("inbox", providers.STRIPE, {"secrets": SECRET, "inbox": True}),
        (
            "limited-inbox",
            providers.STRIPE,
            {"secrets": SECRET, "inbox": True, "max_attempts": 2},
        ),
        (
            "ordered",
            providers.STRIPE,
            {"secrets": SECRET, "inbox": True, "ordered": True},
        ),
        (
            "by-object",
            providers.STRIPE,
            {"secrets": SECRET, "identity": kind_and_object},
        ),
        (
            "by-object-inbox",
            providers.STRIPE,
            {"secrets": SECRET, "identity": kind_and_object, "inbox": True},
        ),
        (
            "by-nothing",
            providers.STRIPE,
            {"secrets": SECRET, "identity": returned_by_the_scene},
        ),
        ("rotating", providers.STRIPE, {"secrets": lambda: ["newer", SECRET]}),
        ("without-secret", providers.STRIPE, {"secrets": ["", " "]}),
        ("failing-secrets", providers.STRIPE, {"secrets": failing_secrets}),
        ("github", providers.GITHUB, {"secrets": SECRET, "inbox": True}),
        ("gocardless", providers.GOCARDLESS, {"secrets": SECRET}),
        ("adyen", providers.ADYEN, {"secrets": ADYEN_SECRET}),
        ("slack", providers.SLACK, {"secrets": SECRET}),
        ("square", providers.SQUARE, {"secrets": SECRET, "url": PUBLIC_URL}),
    )
]
urlpatterns += [
    path("payments/", Payments.as_view()),
    path("stored-payments/", StoredPayments.as_view()),
]
