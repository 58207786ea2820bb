"""The receivers that the storms deliver to, in threads and in processes; also a URLconf.

Each handler goes through the gate and then writes one order, whose amount is the event's
number: orders are executions that were committed.
"""

import os
import signal
from collections import deque
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.urls import path

from django_idempotency.webhooks import Event, providers, webhook
from tests.support.deliveries import SECRET
from tests.support.threads import go_through_the_gate
from tests.testapp.models import Order

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


def handle(event: Event) -> Any:
    scene.calls.append(event.id)
    go_through_the_gate()
    Order.objects.create(amount=int(event.id.rpartition("_")[2]))
    if event.type == LETHAL:
        os.kill(os.getpid(), signal.SIGKILL)
    if scene.failures:
        raise scene.failures.popleft()


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
        ("hasty-inbox", hasty, {"inbox": True}),
        ("short-lived", STRIPE, {"inbox": True, "max_attempts": 3}),
        ("ordered", STRIPE, {"inbox": True, "ordered": True}),
        ("gocardless", providers.GOCARDLESS, {}),
        ("hasty-batch", replace(providers.GOCARDLESS, acknowledge_within=HASTE), {}),
    )
]
