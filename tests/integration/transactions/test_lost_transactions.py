"""Who has lost the transaction of the claim is told so, and never "success" (R10).

The property: told success, everything that the work wrote is there; told failure, nothing
is, or the operation waits for a person and never runs again by itself.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import OutcomeUnknown
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.tasks import current_operation, run_once
from django_idempotency.webhooks import Event, providers, webhook
from django_idempotency.webhooks.inbox import process_next
from tests.integration.placements.commits import db
from tests.support.client import new_key, post
from tests.support.deliveries import SECRET, deliver, stripe
from tests.testapp.models import Order

__all__ = ["db"]

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("db", "ways_are_set_up"),
    pytest.mark.direct,
]

LEASE = timedelta(minutes=1)


def say(*statements: str) -> Callable[[], None]:
    """Over Django's cursor, as a project's raw SQL goes."""

    def said() -> None:
        with connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    return said


def swallowed(*statements: str) -> Callable[[], None]:
    def said() -> None:
        with suppress(DatabaseError):
            say(*statements)()

    return said


def by_the_driver(method: str) -> Callable[[], None]:
    return lambda: getattr(connection.connection, method)()


def script() -> None:
    with connection.cursor() as cursor:
        cursor.executescript("SELECT 1;")


ANY: dict[str, Callable[[], None]] = {
    "COMMIT": say("COMMIT"),
    "commit, in small letters": say("  /* why not */ commit"),
    "ROLLBACK": say("ROLLBACK"),
    "COMMIT and BEGIN": say("COMMIT", "BEGIN"),
    "the driver's commit": by_the_driver("commit"),
    "the driver's rollback": by_the_driver("rollback"),
}
ONLY: dict[str, dict[str, Callable[[], None]]] = {
    "postgresql": {
        "END": say("END"),
        "ABORT": say("ABORT"),
        "COMMIT AND CHAIN": say("COMMIT AND CHAIN"),
    },
    "sqlite": {
        "executescript": script,
        "END": say("END TRANSACTION"),
        "a trigger's RAISE(ROLLBACK)": swallowed(
            "INSERT INTO testapp_lost (id) VALUES (1)"
        ),
        "INSERT OR ROLLBACK": swallowed(
            "INSERT OR ROLLBACK INTO testapp_once (id) VALUES (1)"
        ),
    },
    "mysql": {
        "TRUNCATE": say("TRUNCATE TABLE testapp_lost"),
        "ANALYZE": say("ANALYZE TABLE testapp_lost"),
        "CREATE": say("CREATE TABLE IF NOT EXISTS testapp_lost (id INT)"),
        "ALTER": say("ALTER TABLE testapp_lost ADD COLUMN IF NOT EXISTS n INT"),
        "DROP": say("DROP TABLE IF EXISTS testapp_nothing"),
        "LOCK": say("LOCK TABLES testapp_order WRITE", "UNLOCK TABLES"),
        "FLUSH": say("FLUSH TABLES"),
        "autocommit": say("SET autocommit = 1"),
        "START TRANSACTION": say("START TRANSACTION"),
        "a procedure's COMMIT": say("CALL testapp_commit()"),
        "a procedure's ROLLBACK": say("CALL testapp_rollback()"),
    },
}
WAYS = {**ANY, **ONLY[connection.vendor]}

SET_UP = {
    "sqlite": (
        "CREATE TABLE IF NOT EXISTS testapp_lost (id INTEGER)",
        "CREATE TRIGGER IF NOT EXISTS testapp_lose BEFORE INSERT ON testapp_lost"
        " BEGIN SELECT RAISE(ROLLBACK, 'no'); END",
        "CREATE TABLE IF NOT EXISTS testapp_once (id INTEGER PRIMARY KEY)",
        "INSERT OR IGNORE INTO testapp_once (id) VALUES (1)",
    ),
    "mysql": (
        "CREATE TABLE IF NOT EXISTS testapp_lost (id INT)",
        "CREATE OR REPLACE PROCEDURE testapp_commit() COMMIT",
        "CREATE OR REPLACE PROCEDURE testapp_rollback() ROLLBACK",
    ),
}
TEAR_DOWN = {
    "sqlite": ("DROP TABLE testapp_lost", "DROP TABLE testapp_once"),
    "mysql": (
        "DROP TABLE testapp_lost",
        "DROP PROCEDURE testapp_commit",
        "DROP PROCEDURE testapp_rollback",
    ),
}


@pytest.fixture
def ways_are_set_up(db: None) -> Any:
    say(*SET_UP.get(connection.vendor, ()))()
    yield
    say(*TEAR_DOWN.get(connection.vendor, ()))()


class Work:
    """Writes an order, loses the transaction, and writes another."""

    def __init__(self) -> None:
        self.runs = 0
        self.swallows = False
        self.lose: Callable[[], None] = lambda: None
        self.ends: Callable[[], Any] = lambda: None

    def __call__(self) -> None:
        self.runs += 1
        Order.objects.create()
        try:
            self.lose()
        except Exception:
            if not self.swallows:
                raise
        Order.objects.create()
        self.ends()


work = Work()


@pytest.fixture(autouse=True)
def _fresh_work() -> None:
    work.__init__()  # type: ignore[misc]


def answer(request: HttpRequest) -> HttpResponse:
    work()
    return HttpResponse(status=201)


def leased_answer(request: Any) -> HttpResponse:
    request.idempotency.write("orders", work)
    return HttpResponse(status=201)


def receiver(name: str) -> Any:
    receive = webhook(
        providers.STRIPE,
        secrets=SECRET,
        endpoint=f"losing-{name}",
        inbox=name == "inbox",
    )
    return receive(handle_of(name))


def handle_of(name: str) -> Any:
    def handle(event: Event) -> None:
        work()

    return handle


class Rest(IdempotencyMixin, APIView):
    authentication_classes = ()

    def post(self, request: Any) -> HttpResponse:
        return answer(request)


urlpatterns = [
    path("atomic/", idempotent(answer)),
    path("rest/", Rest.as_view()),
    path("leased/", idempotent(lease=LEASE)(leased_answer)),
    path("inline/", receiver("inline")),
    path("inbox/", receiver("inbox")),
]


def by_view(name: str, key: str) -> str:
    return post(f"/{name}/", key).word


def by_task(name: str, key: str) -> str:
    def write() -> None:
        current_operation().write("orders", work)

    lease = LEASE if name == "leased-task" else None
    try:
        run_once(key, work if lease is None else write, lease=lease)
    except OutcomeUnknown:
        return "409 outcome-unknown"
    except Exception:
        return "500"
    return "201"


def by_event(name: str, key: str) -> str:
    """Deliver it, as the provider does, and let the inbox's worker look."""
    deliver(f"/{name}/", stripe(f"evt_{key}"))
    ProcessedEvent.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())
    if name == "inbox":
        process_next()
    if ProcessedEvent.objects.dead():
        return "409 outcome-unknown"
    is_done = ProcessedEvent.objects.filter(state="processed").exists()
    return "201" if is_done else "500"


SHAPES = {
    "inline": by_event,
    "inbox": by_event,
    "atomic": by_view,
    "rest": by_view,
    "leased": by_view,
    "task": by_task,
    "leased-task": by_task,
}
RECORDED = [name for name, ask in SHAPES.items() if ask is not by_event]


@pytest.mark.parametrize("applied", [True, False], ids=["applied", "not applied"])
@pytest.mark.parametrize("shape", RECORDED)
def test_person_settles_what_was_committed_in_the_middle(
    shape: str, applied: bool
) -> None:
    key = new_key()
    work.lose, work.ends = by_the_driver("commit"), lambda: 1 / 0
    SHAPES[shape](shape, key)
    work.lose = work.ends = lambda: None
    held = IdempotencyRecord.objects.held().get()
    held.settle(applied=applied, reason="looked at the orders")

    word, runs = SHAPES[shape](shape, key), work.runs

    if not applied:
        assert (word, runs, Order.objects.count()) == ("201", 2, 3)
    elif "leased" in shape:
        assert (word.removesuffix(" replayed"), runs) == ("201", 1)
    else:
        assert (word, runs) == ("500" if shape == "task" else ANSWERLESS, 1)


ANSWERLESS = "409 answer-unavailable"


class Killed(BaseException):
    """The process ends; nothing that it would still do reaches the database."""


def be_killed() -> None:
    connection.connection.close()
    raise Killed


ENDS = ["returns", "swallows", "raises", "is killed"]


@pytest.mark.parametrize("ends", ENDS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", SHAPES)
def test_who_has_lost_the_transaction_is_never_told_success(
    shape: str, way: str, ends: str
) -> None:
    require_that_no_loss_is_told_as_success(shape, WAYS[way], ends)


def require_that_no_loss_is_told_as_success(
    shape: str, lose: Callable[[], None], ends: str
) -> None:
    key, ask = new_key(), SHAPES[shape]
    work.lose = lose
    work.swallows = ends == "swallows"
    if ends == "raises":
        work.ends = lambda: 1 / 0
    if ends == "is killed":
        work.ends = be_killed

    try:
        first = ask(shape, key)
    except Killed:
        first = "killed"
        connection.close()
        let_the_lease_end(key)
    stayed, runs = Order.objects.count(), work.runs
    work.lose = work.ends = lambda: None
    again = ask(shape, key)

    if first.startswith("2"):
        # Nothing was lost: what ends the transaction was refused, or had no effect.
        assert (stayed, Order.objects.count()) == (2, 2)
    elif stayed:
        assert again == "409 outcome-unknown"
        assert (Order.objects.count(), work.runs) == (stayed, runs)
        waiting = IdempotencyRecord.objects.held(), ProcessedEvent.objects.dead()
        assert sum(each.count() for each in waiting) == 1
    else:
        assert again.startswith("201")
        assert (Order.objects.count(), work.runs) == (2, runs + 1)


def let_the_lease_end(key: str) -> None:
    leased = IdempotencyRecord.objects.exclude(lease_expires_at=None)
    leased.filter(key=key).update(lease_expires_at=Now() - timedelta(seconds=1))


@pytest.mark.parametrize("shape", SHAPES)
def test_work_that_keeps_its_transaction_is_untouched(shape: str) -> None:
    key = new_key()
    words = [SHAPES[shape](shape, key) for _ in range(2)]

    assert words[0] == "201"
    assert words[1].startswith("201")
    assert (Order.objects.count(), work.runs) == (2, 1)
