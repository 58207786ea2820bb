"""A transaction that lost a conflict is answered from the row of whoever has won.

The conflicts are PostgreSQL's own. While the loser has its claim nobody else can be
first here, so the winner is let through when that is rolled back, before the loser looks.
"""

import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial, partialmethod
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.engine import record_row
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.tasks import run_once
from django_idempotency.webhooks import Event, event_row, providers, webhook
from tests.concurrency.conftest import Connect
from tests.support.cases import cases
from tests.support.client import call, new_key
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.records import change
from tests.support.threads import TIMEOUT, crew, second_connection, start, until_waiting
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]

CHANGE = "UPDATE testapp_order SET amount = amount + 1 WHERE reference = '{}'"


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@contextmanager
def other_transaction() -> Iterator[Any]:
    with second_connection() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            yield cursor
        other.commit()


def skew() -> None:
    """Read what another one writes, who reads what we write: COMMIT is refused."""
    Order.objects.count()
    Order.objects.create(reference="lost")
    with other_transaction() as cursor:
        cursor.execute("SELECT count(*) FROM testapp_order")
        cursor.execute("INSERT INTO testapp_order (reference, amount) VALUES ('', 1)")


def outrun() -> None:
    """Write to a row that has changed since it was read."""
    Order.objects.count()
    with other_transaction() as cursor:
        cursor.execute(CHANGE.format("one"))
    execute(CHANGE.format("one"))


def deadlock() -> None:
    """Be the first of two who notices that each waits for the other."""
    with other_transaction() as cursor, crew() as threads:
        cursor.execute(CHANGE.format("two"))
        execute("SET LOCAL deadlock_timeout = '10ms'")
        execute(CHANGE.format("one"))
        waiting = threads.submit(cursor.execute, CHANGE.format("one"))
        start(threads, until_waiting, 1, ("transactionid",)).result(TIMEOUT)
        try:
            execute(CHANGE.format("two"))
        finally:
            waiting.result(TIMEOUT)


def swallowed() -> None:
    """As Django itself does where it learns of it when it rolls back to a savepoint."""
    with suppress(OperationalError):
        deadlock()


CONFLICTS = {
    "COMMIT refused": (IsolationLevel.SERIALIZABLE, skew),
    "row has changed": (IsolationLevel.REPEATABLE_READ, outrun),
    "deadlock": (IsolationLevel.READ_COMMITTED, deadlock),
    "swallowed": (IsolationLevel.READ_COMMITTED, swallowed),
}


class Scene:
    def __init__(self) -> None:
        self.runs = 0
        self.conflicts: deque[Callable[[], object]] = deque()
        """What the next executions do."""
        self.copies: deque[Callable[[], str]] = deque()
        """Who is let through before the next look."""
        self.words: list[str] = []
        """What those were told."""

    def work(self) -> int:
        self.runs += 1
        order = Order.objects.create()
        if self.conflicts:
            self.conflicts.popleft()()
        return int(order.pk)


scene = Scene()


@idempotent
def view(request: IdempotentRequest) -> HttpResponse:
    return JsonResponse({"order": scene.work()}, status=201)


def handle(event: Event) -> None:
    scene.work()


urlpatterns = [path("", webhook(providers.STRIPE, secrets=SECRET)(handle))]


def call_view(key: str, **changes: Any) -> str:
    try:
        return call(view, key, **changes).word
    except (OperationalError, ValueError):
        return "500"


def deliver_event(key: str) -> str:
    return str(deliver("/", stripe(key)).status_code)


def run_task(key: str) -> str:
    try:
        return f"order {run_once(key, scene.work)}"
    except OperationalError:
        return "500"


@pytest.fixture(autouse=True)
def _winner_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "scene", Scene())

    def look_after_the_copy(row: Any, look: Callable[[Any], Any]) -> Any:
        if scene.runs and scene.copies:
            copy = scene.copies.popleft()
            with crew() as threads:
                scene.words.append(start(threads, copy).result(TIMEOUT))
        return look(row)

    for kind in (record_row.RecordRow, event_row.InlineRow):
        look = partialmethod(look_after_the_copy, kind.look)
        monkeypatch.setattr(kind, "look", look)


def lose(
    send: Callable[[str], str],
    key: str,
    copy: Callable[[str], str] | None,
    connect_with: Connect,
    conflict: str = "COMMIT refused",
    **options: Any,
) -> str:
    Order.objects.create(reference="one")
    Order.objects.create(reference="two")
    level, act = CONFLICTS[conflict]
    connect_with(isolation_level=level, **options)
    scene.conflicts.append(act)
    if copy is not None:
        scene.copies.append(partial(copy, key))
    return send(key)


@pytest.mark.parametrize("conflict", CONFLICTS)
@cases(
    "send, told",
    {
        "view": (call_view, ["201", "201 replayed"]),
        "webhook": (deliver_event, ["200", "200"]),
        "task": (run_task, None),
    },
)
def test_loser_gets_the_answer_of_who_has_won(
    send: Callable[[str], str],
    told: list[str] | None,
    conflict: str,
    connect_with: Connect,
) -> None:
    """Its work isn't done a second time, and nothing that it wrote is there."""
    key = new_key()

    word = lose(send, key, send, connect_with, conflict)

    assert [*scene.words, word] == (told or [f"order {latest().pk}"] * 2)
    assert scene.runs == 2
    assert Order.objects.filter(reference="", amount=0).count() == 1
    assert not Order.objects.filter(reference="lost").exists()


def latest() -> Order:
    return Order.objects.latest("pk")


def fail(key: str) -> str:
    scene.conflicts.append(partial(int, "not a number"))
    return call_view(key)


def be_at_it(key: str) -> str:
    word = call_view(key)
    token, end = uuid.uuid4(), Now() + timedelta(minutes=1)
    change(state="in_flight", lease_token=token, lease_expires_at=end)
    return word


@cases(
    "copy, word, runs",
    {
        "nobody": (None, "500", 1),
        "who has failed": (fail, "500", 2),
        "another payload": (partial(call_view, amount=2), "422 key-reused", 2),
        "who is at it": (be_at_it, "409 in-flight", 2),
    },
)
def test_loser_is_told_what_the_row_says(
    copy: Callable[[str], str] | None, word: str, runs: int, connect_with: Connect
) -> None:
    """Where there is no answer, the error is the view's own, as without this package."""
    told = lose(call_view, new_key(), copy, connect_with)

    assert (told, scene.runs) == (word, runs)


def test_conflict_in_a_callback_after_the_commit_is_its_own() -> None:
    """What is committed is done, and the view's answer is a repeat's."""
    key = new_key()

    def conflict() -> None:
        execute("DO $$ BEGIN RAISE serialization_failure; END $$")

    scene.conflicts.append(lambda: transaction.on_commit(conflict))

    assert [call_view(key), call_view(key)] == ["500", "201 replayed"]
    assert scene.runs == 1


def test_conflict_of_the_transaction_around_the_view_is_its_own(
    connect_with: Connect,
) -> None:
    """It isn't ours to say what became of that."""
    connect_with(isolation_level=IsolationLevel.REPEATABLE_READ)
    Order.objects.create(reference="one")
    scene.conflicts.append(outrun)

    with pytest.raises(OperationalError), transaction.atomic():
        call(view, new_key())
    assert not scene.words


@pytest.mark.direct
def test_who_may_not_look_for_so_long_is_told_to_come_back(
    connect_with: Connect,
) -> None:
    """Such as by the project's own limit; nothing was done."""
    table = IdempotencyRecord._meta.db_table
    with second_connection() as other:

        def lock_the_table(key: str) -> str:
            other.set_autocommit(False)
            with other.cursor() as cursor:
                cursor.execute(f"LOCK TABLE {table}")
            return ""

        other.inc_thread_sharing()
        limit = "-c statement_timeout=500ms"
        word = lose(call_view, new_key(), lock_the_table, connect_with, options=limit)

    assert word == "409 in-flight"


@pytest.mark.direct
def test_who_can_not_look_again_gets_the_error(
    connect_with: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether somebody has won, a repeat will be told."""

    def end_the_server(key: str) -> str:
        execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        monkeypatch.setitem(connection.settings_dict, "PORT", 1)
        return ""

    word = lose(call_view, new_key(), end_the_server, connect_with)
    monkeypatch.undo()
    connection.close()

    assert word == "500"
