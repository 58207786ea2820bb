"""A copy waits for the first answer: as long as it may, through any number of leaders."""

from __future__ import annotations

import threading
import time

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, call, new_key, post, told
from tests.concurrency.conftest import Connect
from tests.concurrency.shop import inner, scene
from tests.concurrency.storm import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    all_at_once,
    crew,
    gate_closed,
    second_connection,
    start,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]


DEFAULT_WAIT = 5
"""Seconds."""


def copies_of_one_in_flight(path: str) -> list[Answer]:
    """Send copies to `path` while the first is in its view; return what they got."""
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, path, key)
        until_waiting(1, AT_THE_GATE)
        copies = [start(threads, post, path, key) for _ in range(3)]
        answers = [copy.result(TIMEOUT) for copy in copies]
        gate.open()
        assert leader.result(TIMEOUT).word == "201"
    return answers


def test_copy_that_does_not_wait_is_told_so() -> None:
    assert told(copies_of_one_in_flight("/impatient/")) == {"409 in-flight": 3}


def test_copy_that_does_not_wait_is_answered_at_once() -> None:
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, "/impatient/", key)
        until_waiting(1, AT_THE_GATE)
        began = time.monotonic()
        post("/impatient/", key)
        took = time.monotonic() - began
        gate.open()
        leader.result(TIMEOUT)

    assert took < DEFAULT_WAIT / 2


def test_copy_whose_wait_is_over_is_told_so() -> None:
    assert told(copies_of_one_in_flight("/hasty/")) == {"409 in-flight": 3}


def test_copy_that_is_sent_away_is_told_when_to_come_back() -> None:
    answers = copies_of_one_in_flight("/hasty/")

    assert [answer.headers["Retry-After"] for answer in answers] == ["1", "1", "1"]


def test_wait_ends_when_the_policy_says() -> None:
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, "/hasty/", key)
        until_waiting(1, AT_THE_GATE)
        began = time.monotonic()
        post("/hasty/", key)
        took = time.monotonic() - began
        gate.open()
        leader.result(TIMEOUT)

    assert 0.3 <= took < DEFAULT_WAIT / 2


def test_copy_sent_away_leaves_the_first_one_alone() -> None:
    copies_of_one_in_flight("/hasty/")

    assert Order.objects.count() == 1
    assert IdempotencyRecord.objects.get().state == "kept"


def test_copy_takes_over_when_the_first_one_fails() -> None:
    key = new_key()
    scene.failures.append(ValueError())
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        copies = [start(threads, post, "/protected/", key) for _ in range(3)]
        until_waiting(3, AT_A_CLAIM)
        gate.open()
        assert leader.result(TIMEOUT).status == 500
        answers = [copy.result(TIMEOUT) for copy in copies]

    assert told(answers) == {"201": 1, "201 replayed": 2}
    assert Order.objects.count() == 1


def test_through_leaders_that_all_fail_each_copy_gets_an_answer() -> None:
    key = new_key()
    scene.failures.extend(ValueError() for _ in range(4))
    with gate_closed() as gate, crew() as threads:
        futures = [start(threads, post, "/protected/", key) for _ in range(8)]
        until_waiting(7, AT_A_CLAIM)
        gate.open()
        answers = [future.result(TIMEOUT) for future in futures]

    assert told(answers) == {"500": 4, "201": 1, "201 replayed": 3}
    assert Order.objects.count() == 1


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


def test_copy_waits_for_the_commit_of_the_transaction_around_the_view() -> None:
    # FR-012: the view is done, the project's own transaction is not.
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        first = start(threads, post, "/in-a-transaction/", key)
        until_waiting(1, AT_THE_GATE)
        copy = start(threads, post, "/in-a-transaction/", key)
        until_waiting(1, AT_A_CLAIM)
        gate.open()
        words = [first.result(TIMEOUT).word, copy.result(TIMEOUT).word]

    assert words == ["201", "201 replayed"]
    assert Order.objects.count() == 1


def test_copy_runs_when_the_transaction_around_the_view_is_rolled_back() -> None:
    key = new_key()  # FR-012
    scene.rollbacks = 1
    with gate_closed() as gate, crew() as threads:
        first = start(threads, post, "/in-a-transaction/", key)
        until_waiting(1, AT_THE_GATE)
        copy = start(threads, post, "/in-a-transaction/", key)
        until_waiting(1, AT_A_CLAIM)
        gate.open()
        words = [first.result(TIMEOUT).word, copy.result(TIMEOUT).word]

    assert words == ["201", "201"]
    assert Order.objects.count() == 1


@pytest.mark.parametrize("level", ["REPEATABLE_READ", "SERIALIZABLE"])
def test_copy_whose_transaction_cannot_see_the_winner_is_told_to_come_back(
    connect_with: Connect, level: str
) -> None:
    # The snapshot was taken before the winner committed, and it isn't ours to renew.
    connect_with(isolation_level=IsolationLevel[level])
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        first = start(threads, post, "/in-a-transaction/", key)
        until_waiting(1, AT_THE_GATE)
        copies = [start(threads, post, "/in-a-transaction/", key) for _ in range(3)]
        until_waiting(3, AT_A_CLAIM)
        gate.open()
        assert first.result(TIMEOUT).word == "201"
        answers = [copy.result(TIMEOUT) for copy in copies]

    assert told(answers) == {"409 in-flight": 3}
    assert Order.objects.count() == 1
    assert post("/in-a-transaction/", key).word == "201 replayed"


def claim_both(
    keys: tuple[str, str], *, meet: threading.Barrier, gives_up: bool
) -> list[str]:
    """Claim two keys in one transaction; what is not 2xx may roll it back."""
    with transaction.atomic():
        words = [call(inner, keys[0]).word]
        meet.wait(TIMEOUT)
        words.append(call(inner, keys[1]).word)
        if gives_up and words[1].startswith("409"):
            transaction.set_rollback(True)
    return words


def claim_two_in_opposite_order(*, gives_up: bool) -> tuple[list[list[str]], list[str]]:
    """Return what the two transactions were told, and what a retry of each key is."""
    one, other = new_key(), new_key()
    orders = [(one, other), (other, one)]
    meet = threading.Barrier(2)
    told = all_at_once(
        2, lambda number: claim_both(orders[number], meet=meet, gives_up=gives_up)
    )
    return sorted(told), [call(inner, key).word for key in (one, other)]


def test_victim_of_a_deadlock_is_told_to_come_back() -> None:  # FR-005
    told, retried = claim_two_in_opposite_order(gives_up=False)

    assert told == [["201", "201 replayed"], ["201", "409 in-flight"]]
    assert retried == ["201 replayed", "201 replayed"]
    assert Order.objects.count() == 2


def test_victim_of_a_deadlock_that_rolls_back_leaves_nothing_claimed() -> None:
    told, retried = claim_two_in_opposite_order(gives_up=True)  # FR-005

    assert told == [["201", "201"], ["201", "409 in-flight"]]
    assert retried == ["201 replayed", "201 replayed"]
    assert Order.objects.count() == 2


@pytest.mark.direct
def test_statement_timeout_of_the_project_ends_the_wait(connect_with: Connect) -> None:
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        connect_with(options="-c statement_timeout=200ms")
        answer = start(threads, post, "/protected/", key).result(TIMEOUT)
        gate.open()
        assert leader.result(TIMEOUT).word == "201"

    assert answer.word == "409 in-flight"


@pytest.mark.direct
def test_timeout_while_the_winner_is_looked_up_is_answered_like_a_wait(
    connect_with: Connect,
) -> None:
    """A migration gets its lock on the table between the lost claim and the look."""
    key = new_key()
    with gate_closed() as gate, crew() as threads, second_connection() as migration:
        leader = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        connect_with(options="-c statement_timeout=1s")
        copy = start(threads, post, "/protected/", key)
        until_waiting(1, AT_A_CLAIM)
        lock = start(threads, lock_the_table, migration)
        until_waiting(1, ("relation",))
        gate.open()
        leader.result(TIMEOUT)
        lock.result(TIMEOUT)
        answer = copy.result(TIMEOUT)

    assert answer.word == "409 in-flight"


def lock_the_table(session: BaseDatabaseWrapper) -> None:
    session.inc_thread_sharing()
    session.set_autocommit(False)
    with session.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(f"LOCK TABLE {IdempotencyRecord._meta.db_table}")
