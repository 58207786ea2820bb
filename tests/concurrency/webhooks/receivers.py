"""The receivers that the storms deliver to, in threads and in processes; also a URLconf.

Each handler goes through the gate and then writes one order, whose amount is the event's
number: orders are executions that were committed.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.urls import path

from django_idempotency.webhooks import Event, providers, webhook
from tests.concurrency.storm import go_through_the_gate
from tests.deliveries import SECRET
from tests.testapp.models import Order

__all__ = ["HASTE", "LETHAL", "Scene", "number_of", "scene", "urlpatterns"]

HASTE = timedelta(milliseconds=600)
"""How long a hasty provider waits for an answer."""

LETHAL = "lethal"
"""The type of an event whose handler kills its process."""


class Scene:
    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.calls: deque[str] = deque()
        self.failures: deque[Exception] = deque()


scene = Scene()


def number_of(event_id: str) -> int:
    return int(event_id.rpartition("_")[2])


def handle(event: Event) -> Any:
    scene.calls.append(event.id)
    go_through_the_gate()
    order = Order.objects.create(amount=number_of(event.id))
    if event.type == LETHAL:
        os.kill(os.getpid(), signal.SIGKILL)
    if scene.failures:
        raise scene.failures.popleft()
    for _ in range(8):  # more points to be killed at
        Order.objects.filter(pk=order.pk).update(amount=number_of(event.id))


STRIPE = providers.STRIPE
hasty = replace(STRIPE, acknowledge_within=HASTE, busy_status=409)

urlpatterns = [
    path(
        f"{name}/",
        webhook(profile, secrets=SECRET, endpoint=f"storm-{name}", **options)(handle),
    )
    for name, profile, options in (
        ("inline", STRIPE, {}),
        ("hasty", hasty, {}),
        ("inbox", STRIPE, {"inbox": True}),
        ("short-lived", STRIPE, {"inbox": True, "max_attempts": 3}),
        ("ordered", STRIPE, {"inbox": True, "ordered": True}),
        ("gocardless", providers.GOCARDLESS, {}),
        (
            "hasty-batch",
            replace(providers.GOCARDLESS, acknowledge_within=HASTE),
            {},
        ),
    )
]
