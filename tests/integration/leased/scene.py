"""What the leased views of the tests do, and what there is to see of it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models.functions import Now

from tests.support.client import Answer, new_key, post
from tests.support.records import change, record
from tests.testapp.models import Order

LEASE = timedelta(minutes=1)

Deed = Callable[[Any], tuple[int, Any] | None]
"""Given the request; returns status and data of the answer, or nothing: 201."""


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
        self.key = new_key()
        """The key of all requests of the test that don't bring their own."""
        self.runs = 0
        """How often a view was entered."""

    def enact(self, request: Any) -> tuple[int, Any]:
        self.runs += 1
        return self.deed(request) or (201, {})


scene = Scene()


def send(path: str = "plain", **options: Any) -> Answer:
    return post(f"/{path}/", scene.key, **options)


def words(path: str = "plain", count: int = 2) -> list[str]:
    return [send(path).word for _ in range(count)]


def remembered() -> list[Any]:
    """The names of the steps in the record, and whether they are done."""
    return [(step["name"], step["done"]) for step in record().steps]


def let_the_lease_end() -> None:
    """As if its owner had been killed, or sat still, for the length of the lease."""
    change(lease_expires_at=Now() - timedelta(seconds=1))


def take_over(path: str = "plain", deed: Deed = place) -> Answer:
    """Let the lease end, and let another request come and do this."""
    let_the_lease_end()
    scene.deed = deed
    answer = send(path)
    assert not connection.in_atomic_block
    return answer
