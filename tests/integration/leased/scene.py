"""What the leased views of the tests do, and what there is to see of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now

from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order

__all__ = [
    "LEASE",
    "change",
    "let_the_lease_end",
    "order",
    "record",
    "remembered",
    "scene",
    "states",
    "take_over",
]

LEASE = timedelta(minutes=1)

Deed = Callable[[Any], tuple[int, Any]]
"""Given the request; returns status and data of the answer."""


def place(request: Any) -> tuple[int, Any]:
    return 201, {"order": order()}


def order() -> int:
    """Write one order, in whatever transaction is open."""
    created: int = Order.objects.create().pk
    return created


class Scene:
    """What happens in the views; one test sets it."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.deed: Deed = place
        self.runs = 0
        """How often a view was entered."""

    def enact(self, request: Any) -> tuple[int, Any]:
        self.runs += 1
        return self.deed(request)


scene = Scene()


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def states() -> list[str]:
    return list(IdempotencyRecord.objects.values_list("state", flat=True))


def remembered() -> list[Any]:
    """The names of the steps in the record, and whether they are done."""
    return [(step["name"], step["done"]) for step in record().effects.get("steps", [])]


def change(**columns: Any) -> None:
    """Change the record as nobody but a person with SQL would."""
    assert IdempotencyRecord.objects.update(**columns) == 1


def let_the_lease_end() -> None:
    """As if its owner had been killed, or sat still, for the length of the lease."""
    change(lease_expires_at=Now() - timedelta(seconds=1))


def take_over(send: Callable[[], Any], deed: Deed = place) -> Any:
    """Let the lease end, and let another request come and do this."""
    let_the_lease_end()
    scene.deed = deed
    answer = send()
    assert not connection.in_atomic_block
    return answer
