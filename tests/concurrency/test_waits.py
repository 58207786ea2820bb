"""A copy waits for the first answer: as long as it may, through any number of leaders."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from django_idempotency.exceptions import ClaimConflict
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import rows
from tests.concurrency.conftest import AT_THE_SHOP, Connect
from tests.concurrency.leader import leading
from tests.concurrency.shop import inner, scene
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory
from tests.support.client import Answer, call, new_key, post, told
from tests.support.records import states
from tests.support.threads import (
    AT_A_CLAIM,
    TIMEOUT,
    all_at_once,
    crew,
    second_connection,
    start,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP


DEFAULT_WAIT = 5
"""Seconds."""


@pytest.mark.parametrize(
    ("path", "least"), [("/impatient/", 0), ("/hasty/", 0.3)], ids=["none", "0.3 s"]
)
def test_copy_whose_wait_is_over_is_told_when_to_come_back(
    path: str, least: float
) -> None:
    with leading(path) as leader:
        answers = [copy.result(TIMEOUT) for copy in leader.copies(3)]
        began = time.monotonic()
        post(path, leader.key)
        took = time.monotonic() - began
        assert leader.go_on().word == "201"

    assert told(answers) == {"409 in-flight": 3}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}
    assert least <= took < DEFAULT_WAIT / 2
    # The first one was left alone.
    assert (Order.objects.count(), states()) == (1, ["kept"])


def test_copy_for_an_agent_does_not_wait(settings: Any) -> None:
    """Agentic Commerce Protocol, "Agentic Checkout", 6.4: with `Retry-After`."""
    settings.IDEMPOTENCY_PROFILE = "acp"
    with leading("/protected/") as leader:
        (answer,) = [copy.result(TIMEOUT) for copy in leader.copies(1)]
        assert leader.go_on().word == "201"

    assert (answer.status, answer.json["code"]) == (409, "idempotency_in_flight")
    assert answer.headers["Retry-After"] == "1"


@pytest.mark.postgresql
@pytest.mark.parametrize("factory", [IdempotencyRecordFactory, ProcessedEventFactory])
def test_row_that_is_made_anew_while_it_is_waited_for_is_not_the_waiters(
    factory: Any,
) -> None:
    """The lock finds the deleted row only; whoever read the new one would own it twice."""
    row = factory.create()

    def lock() -> None:
        with transaction.atomic():
            wait = timedelta(seconds=DEFAULT_WAIT)
            rows.lock(type(row), row.pk, using="default", wait=wait)

    table = row._meta.db_table
    with crew() as threads, second_connection() as other:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table} RETURNING *")  # noqa: S608
            (columns,) = cursor.fetchall()
            values = ", ".join(["%s"] * len(columns))
            cursor.execute(f"INSERT INTO {table} VALUES ({values})", columns)  # noqa: S608
        waiter = start(threads, lock)
        until_waiting(1, AT_A_CLAIM)
        other.commit()
        with pytest.raises(ClaimConflict):
            waiter.result(TIMEOUT)


@pytest.mark.parametrize("exists", [False, True], ids=["new", "released"])
def test_no_copy_waits_longer_than_it_may_behind_leaders_that_fail(
    exists: bool,
) -> None:
    """`lock_timeout` starts anew with each leader; the wait of four seconds does not."""
    key = new_key()
    if exists:
        scene.failures.append(ValueError())
        post("/patient/", key)
    took: list[float] = []

    def copy() -> Answer:
        began = time.monotonic()
        answer = post("/patient/", key)
        took.append(time.monotonic() - began)
        return answer

    calls, failing, working = scene.calls, threading.Event(), threading.Event()
    scene.failures.append(ValueError())
    scene.pauses.extend([failing, working])
    with crew() as threads:
        leader = start(threads, post, "/patient/", key)
        until(lambda: scene.calls == calls + 1)
        copies = [start(threads, copy) for _ in range(8)]
        until_waiting(8, AT_A_CLAIM)
        time.sleep(3)
        failing.set()
        assert leader.result(TIMEOUT).status == 500
        until(lambda: len(took) == 7)
        working.set()
        answers = [each.result(TIMEOUT) for each in copies]

    assert told(answers) == {"201": 1, "409 in-flight": 7}
    assert max(took[:7]) < 6  # started anew at the second leader it would be seven


def test_claim_that_comes_after_the_wait_is_given_back() -> None:
    """Leaders that fail fast, one after the other, are all waited for by one INSERT."""
    key = new_key()
    hurry = [threading.Event() for _ in range(20)]
    scene.failures.extend(ValueError() for _ in hurry)
    scene.pauses.extend(hurry)
    with crew() as threads:
        copies = [start(threads, post, "/fairly-patient/", key) for _ in range(20)]
        for event in hurry:
            time.sleep(0.15)
            event.set()
        answers = [each.result(TIMEOUT) for each in copies]

    words = told(answers)
    assert set(words) == {"500", "409 in-flight"}
    assert Order.objects.count() == 0


@pytest.mark.parametrize(
    ("rollbacks", "word"), [(0, "201 replayed"), (1, "201")], ids=["commit", "rollback"]
)
def test_copy_waits_for_the_end_of_the_transaction_around_the_view(
    rollbacks: int, word: str
) -> None:
    """FR-012: the view is done, the project's own transaction is not."""
    scene.rollbacks = rollbacks
    with leading("/in-a-transaction/") as leader:
        (copy,) = leader.copies_that_wait(1)
        words = [leader.go_on().word, copy.result(TIMEOUT).word]

    assert words == ["201", word]
    assert Order.objects.count() == 1


@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_copy_whose_transaction_cannot_see_the_winner_is_told_to_come_back(
    connect_with: Connect, level: str
) -> None:
    # The snapshot was taken before the winner committed, and it isn't ours to renew.
    connect_with(isolation_level=IsolationLevel[level])
    with leading("/in-a-transaction/") as leader:
        copies = leader.copies_that_wait(3)
        assert leader.go_on().word == "201"
        answers = [copy.result(TIMEOUT) for copy in copies]

    assert told(answers) == {"409 in-flight": 3}
    assert Order.objects.count() == 1
    assert post("/in-a-transaction/", leader.key).word == "201 replayed"


@pytest.mark.parametrize("gives_up", [False, True], ids=["goes on", "rolls back"])
def test_victim_of_a_deadlock_is_told_to_come_back(gives_up: bool) -> None:
    """FR-005: if it rolls back, it leaves nothing claimed."""
    one, other = new_key(), new_key()
    orders = [(one, other), (other, one)]
    meet = threading.Barrier(2)

    def claim_both(number: int) -> list[str]:
        with transaction.atomic():
            words = [call(inner, orders[number][0]).word]
            meet.wait(TIMEOUT)
            words.append(call(inner, orders[number][1]).word)
            if gives_up and words[1].startswith("409"):
                transaction.set_rollback(True)
        return words

    told = sorted(all_at_once(2, claim_both))
    survivor = ["201", "201" if gives_up else "201 replayed"]

    assert told == [survivor, ["201", "409 in-flight"]]
    assert [call(inner, key).word for key in (one, other)] == ["201 replayed"] * 2
    assert Order.objects.count() == 2


@pytest.mark.direct
def test_statement_timeout_of_the_project_ends_the_wait(connect_with: Connect) -> None:
    with leading("/protected/") as leader:
        connect_with(options="-c statement_timeout=200ms")
        answer = leader.copies(1)[0].result(TIMEOUT)
        assert leader.go_on().word == "201"

    assert answer.word == "409 in-flight"


@pytest.mark.direct
def test_timeout_while_the_winner_is_looked_up_is_answered_like_a_wait(
    connect_with: Connect,
) -> None:
    """A migration gets its lock on the table between the lost claim and the look."""
    with leading("/protected/") as leader, second_connection() as migration:
        connect_with(options="-c statement_timeout=1s")
        (copy,) = leader.copies_that_wait(1)
        lock = start(leader.threads, lock_the_table, migration)
        until_waiting(1, ("relation",))
        leader.go_on()
        lock.result(TIMEOUT)
        answer = copy.result(TIMEOUT)

    assert answer.word == "409 in-flight"


def lock_the_table(session: BaseDatabaseWrapper) -> None:
    session.inc_thread_sharing()
    session.set_autocommit(False)
    with session.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(f"LOCK TABLE {IdempotencyRecord._meta.db_table}")
