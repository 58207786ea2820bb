"""Copies of events at the same moment, in threads."""

import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from django_idempotency.core.events import EventFacts, EventState
from django_idempotency.models import ProcessedEvent
from django_idempotency.store import due
from django_idempotency.store import events as event_store
from django_idempotency.webhooks import PermanentError, inbox
from django_idempotency.webhooks.inbox import FIRST_RETRY, Step, process_next
from tests.concurrency.conftest import Connect
from tests.concurrency.webhooks.receivers import HASTE, scene
from tests.support.cases import cases
from tests.support.deliveries import Sent, deliver, gocardless, stripe
from tests.support.threads import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    all_at_once,
    crew,
    gate_closed,
    go_through_the_gate,
    second_connection,
    start,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.webhooks.receivers"),
]

NO_WAIT = timedelta(0)


def status(path: str, sent: Sent) -> int:
    code: int = deliver(path, sent).status_code
    return code


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_fifty_copies_are_handled_once_and_all_acknowledged(path: str) -> None:
    """F3, FR-086"""
    answers = all_at_once(50, lambda number: status(path, stripe()))
    taken = all_at_once(4, lambda number: process_next())

    assert Counter(answers) == {200: 50}
    assert Order.objects.count() == 1
    assert len(scene.calls) == 1
    assert ProcessedEvent.objects.get().state == "processed"
    assert taken.count(Step.PROCESSED) == (1 if path == "/inbox/" else 0)


@cases("failures", {"FR-088": 0, "F4: first fails": 1})
def test_copies_that_wait_are_handled_only_if_the_first_one_fails(
    failures: int,
) -> None:
    """All have looked and found nothing before the first one is committed."""
    scene.failures.extend(ValueError() for _ in range(failures))
    with gate_closed() as gate, crew() as threads:
        copies = [start(threads, status, "/inline/", stripe()) for _ in range(8)]
        until_waiting(1, AT_THE_GATE)
        until_waiting(7, AT_A_CLAIM)
        gate.open()
        answers = [copy.result(TIMEOUT) for copy in copies]

    assert sorted(answers) == [200] * (8 - failures) + [500] * failures
    assert len(scene.calls) == 1 + failures
    assert Order.objects.count() == 1
    assert ProcessedEvent.objects.get().state == "processed"


@cases("before, attempts", {"failed": (500, 2), "expired": (200, 1)})
def test_of_many_redeliveries_one_runs(before: int, attempts: int) -> None:
    if before == 500:
        scene.failures.append(ValueError())
    assert status("/inline/", stripe()) == before
    if before == 200:
        ProcessedEvent.objects.update(expires_at="2020-01-01T00:00Z")

    assert Counter(all_at_once(20, lambda _: status("/inline/", stripe()))) == {200: 20}
    assert len(scene.calls) == 2
    assert Order.objects.count() == (1 if before == 500 else 2)
    event = ProcessedEvent.objects.get()
    assert (event.state, event.attempts) == ("processed", attempts)


@pytest.mark.parametrize("first", [True, False], ids=["first", "after-a-failure"])
def test_copy_of_a_long_event_is_told_to_come_back(first: bool) -> None:  # F5
    if not first:
        scene.failures.append(ValueError())
        status("/hasty/", stripe())
    with gate_closed() as gate, crew() as threads:
        long = start(threads, status, "/hasty/", stripe())
        until_waiting(1, AT_THE_GATE)
        began = time.monotonic()
        copy = deliver("/hasty/", stripe())
        waited = time.monotonic() - began
        gate.open()
        answer = long.result(TIMEOUT)

    assert (copy.status_code, copy["Retry-After"]) == (409, "1")
    half = HASTE.total_seconds() / 2
    assert half * 0.9 < waited < half + 5
    assert answer == 200
    assert Order.objects.count() == 1


@contextmanager
def waits_granted() -> Iterator[list[timedelta]]:
    """Collect how long each INSERT of an event may wait for another session."""
    waits: list[timedelta] = []

    def collect(
        execute: Callable[..., Any], sql: str, parameters: Any, *rest: Any
    ) -> Any:
        if sql.startswith("INSERT INTO django_idempotency_processedevent"):
            waits.append(timedelta(milliseconds=int(parameters["wait"])))
        return execute(sql, parameters, *rest)

    with connection.execute_wrapper(collect):
        yield waits


def receive_and_commit_later(path: str) -> int:
    with transaction.atomic():
        code = status(path, stripe())
        go_through_the_gate()
        return code


@pytest.mark.parametrize("path", ["/hasty/", "/hasty-inbox/"])
def test_copy_waits_no_longer_than_half_of_its_providers_patience(path: str) -> None:
    """The row of the first delivery is there, and isn't committed."""
    with gate_closed() as gate, crew() as threads:
        first = start(threads, receive_and_commit_later, path)
        until_waiting(1, AT_THE_GATE)
        with waits_granted() as waits:
            copy = status(path, stripe())
        gate.open()
        answer = first.result(TIMEOUT)

    assert (copy, answer) == (409, 200)
    # The last of a wait is rounded up.
    assert NO_WAIT < sum(waits, NO_WAIT) < 0.6 * HASTE


def test_batch_waits_no_longer_than_one_event() -> None:
    """Its provider hangs up after so long, however many events are in it."""
    batch = gocardless(*(f"e_{number}" for number in range(8)))
    with gate_closed() as gate, crew() as threads:
        long = [
            start(threads, status, "/hasty-batch/", gocardless(f"e_{number}"))
            for number in range(8)
        ]
        until_waiting(8, AT_THE_GATE)
        began = time.monotonic()
        copy = deliver("/hasty-batch/", batch)
        waited = time.monotonic() - began
        gate.open()
        answers = [each.result(TIMEOUT) for each in long]

    assert (copy.status_code, copy["Retry-After"]) == (503, "1")
    assert waited < HASTE.total_seconds() / 2 + 1
    assert answers == [204] * 8
    assert Order.objects.count() == 8


def test_copy_of_a_dying_event_is_not_acknowledged_without_its_payload() -> None:
    """Whoever answers 2xx has the dead event with its payload in the table."""
    scene.failures.extend(PermanentError() for _ in range(20))
    answers = all_at_once(20, lambda number: status("/inline/", stripe()))

    assert 200 in answers
    assert set(answers) <= {200, 500}
    event = ProcessedEvent.objects.get()
    assert (event.state, event.payload is not None) == ("dead", True)
    assert Order.objects.count() == 0


def test_failure_that_is_noted_late_overwrites_nothing() -> None:
    """The copy is done by the time that the first one's failure is written."""
    status("/inline/", stripe())
    done = ProcessedEvent.objects.get()
    event = event_store.NewEvent(
        row_id=done.pk,
        endpoint=done.endpoint,
        facts=EventFacts(
            id=done.event_id,
            type="",
            source=done.source,
            account=done.account,
            object_key="",
            occurred_at=None,
            headers={},
        ),
        is_ordered=False,
        body_digest="",
    )
    for state, payload in ((EventState.FAILED, None), (EventState.DEAD, b"{}")):
        assert not event_store.note_failure(
            event, state, "Late", payload=payload, uses_up=True, using="default"
        )
    after = ProcessedEvent.objects.get()
    assert (after.state, after.attempts, after.last_error) == ("processed", 1, "")


def test_batches_in_opposite_order_dont_deadlock() -> None:  # F33
    ids = [f"e_{number}" for number in range(10)]
    batches = [gocardless(*ids), gocardless(*reversed(ids))]
    for _ in range(5):
        Order.objects.all().delete()
        ProcessedEvent.objects.all().delete()
        answers = all_at_once(
            8, lambda number: status("/gocardless/", batches[number % 2])
        )
        assert answers == [204] * 8
        amounts = Order.objects.order_by("amount").values_list("amount", flat=True)
        assert list(amounts) == list(range(10))


def test_deadlock_of_two_foreign_transactions_costs_one_of_them() -> None:  # FR-005
    """It rolls back cleanly and can come again; nothing is left half-claimed."""
    events = [("evt_1", "evt_2"), ("evt_2", "evt_1")]
    meeting = threading.Barrier(2)

    def both(number: int) -> list[int]:
        first, second = events[number]
        try:
            with transaction.atomic():
                answers = [status("/inline/", stripe(first))]
                meeting.wait(TIMEOUT)
                answers.append(status("/inline/", stripe(second)))
                if answers[1] != 200:
                    transaction.set_rollback(True)
                return answers
        except Exception:
            return [200, 500]

    answers = all_at_once(2, both)
    assert sorted(each[1] for each in answers)[0] == 200
    for event_id in ("evt_1", "evt_2"):
        assert status("/inline/", stripe(event_id)) == 200
    amounts = Order.objects.order_by("amount").values_list("amount", flat=True)
    assert list(amounts) == [1, 2]


def test_many_workers_share_the_work() -> None:
    for number in range(40):
        status("/inbox/", stripe(f"evt_{number}"))

    def work(worker: int) -> int:
        handled = 0
        while (step := process_next()) is not Step.NOTHING_DUE:
            handled += step is Step.PROCESSED
        return handled

    with gate_closed() as gate, crew() as threads:
        workers = [start(threads, work, number) for number in range(4)]
        until_waiting(4, AT_THE_GATE)  # each with an event of its own
        gate.open()
        shares = [worker.result(TIMEOUT) for worker in workers]
    assert sum(shares) == 40
    assert min(shares) > 0
    assert sorted(Order.objects.values_list("amount", flat=True)) == list(range(40))
    assert len(scene.calls) == 40


@pytest.mark.parametrize("act", [inbox.rerun, inbox.reopen])
def test_of_many_people_at_once_one_acts(act: Any) -> None:
    """And the handler runs once for all of them."""
    if act is inbox.rerun:
        scene.failures.append(PermanentError())
    status("/inline/", stripe())
    scene.calls.clear()
    seen = ProcessedEvent.objects.get()

    def decide(person: int) -> str:
        try:
            act(seen, reason="mended", by=str(person))
        except ValueError as error:
            return str(error)
        return "done"

    told = all_at_once(8, decide)
    answers = all_at_once(2, lambda number: status("/inline/", stripe()))
    event = ProcessedEvent.objects.get()
    assert told.count("done") == len(event.reruns) == len(scene.calls) == 1
    assert all("Nothing was done" in each for each in told if each != "done")
    assert (event.state, answers) == ("processed", [200, 200])


@contextmanager
def begun_and_locked() -> Iterator[tuple[Any, uuid.UUID]]:
    """An event whose attempt has begun, and whose row another session has locked."""
    status("/inbox/", stripe())
    with second_connection() as other, other.cursor() as cursor:
        other.set_autocommit(False)
        row_id = due.look(using="default", free_after=FIRST_RETRY).begun
        assert row_id is not None
        cursor.execute(
            "SELECT 1 FROM django_idempotency_processedevent FOR UPDATE SKIP LOCKED"
        )
        yield other, row_id
        other.rollback()


def test_worker_gets_a_row_that_another_one_has_only_looked_at() -> None:
    """It was due when the other one's query began, and begun when it had the lock."""
    with begun_and_locked() as (other, row_id), crew() as threads:
        attempt = start(threads, inbox._BegunEvent(row_id, "default").step)
        until_waiting(1, AT_A_CLAIM)
        other.rollback()
        assert attempt.result(TIMEOUT) is Step.PROCESSED
    assert Order.objects.count() == 1


def test_worker_doesnt_wait_long_for_what_another_one_has() -> None:
    with begun_and_locked() as (_, row_id):
        assert inbox._BegunEvent(row_id, "default").step() is Step.TAKEN
    assert scene.calls == deque()


def test_worker_leaves_an_event_alone_that_another_one_has() -> None:
    """Even when it takes longer than the time for which it is not due."""
    status("/inbox/", stripe())
    with gate_closed() as gate, crew() as threads:
        long = start(threads, process_next)
        until_waiting(1, AT_THE_GATE)
        _make_due_unless_it_is_locked()
        assert process_next() is Step.NOTHING_DUE
        gate.open()
        assert long.result(TIMEOUT) is Step.PROCESSED
    assert len(scene.calls) == 1


def _make_due_unless_it_is_locked() -> None:
    """Turn the clock on, as it were: the row's lock is its worker's."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE django_idempotency_processedevent"
            " SET next_attempt_at = clock_timestamp() WHERE id IN (SELECT id"
            " FROM django_idempotency_processedevent FOR UPDATE SKIP LOCKED)"
        )


def test_ordered_events_of_an_object_never_run_at_once() -> None:  # F42
    for number in range(12):
        sent = stripe(f"evt_{number}", data={"object": {"id": f"in_{number % 2}"}})
        status("/ordered/", sent)

    def work(worker: int) -> None:
        while ProcessedEvent.objects.exclude(next_attempt_at=None).exists():
            process_next()

    all_at_once(4, work)
    handled = list(scene.calls)
    for parity in (0, 1):
        numbers = [int(each[4:]) for each in handled if int(each[4:]) % 2 == parity]
        assert numbers == sorted(numbers)
    assert len(handled) == 12


def test_event_is_not_left_behind_by_whoever_postpones_it_at_that_moment() -> None:
    """The first one of its object ends between the look and the commit."""
    for event_id in ("evt_1", "evt_2"):
        status("/ordered/", stripe(event_id))
    with gate_closed() as gate, crew() as threads:
        first = start(threads, process_next)
        until_waiting(1, AT_THE_GATE)
        with transaction.atomic():
            assert due.look(using="default", free_after=FIRST_RETRY).has_postponed
            gate.open()
            until_waiting(1, AT_A_CLAIM)
        assert first.result(TIMEOUT) is Step.PROCESSED
    assert process_next() is Step.PROCESSED
    assert list(scene.calls) == ["evt_1", "evt_2"]


def test_worker_that_begins_an_event_at_that_moment_is_not_waited_for() -> None:
    """Both began before either could see the other, and end in the order of chance."""
    for event_id in ("evt_1", "evt_2"):
        status("/ordered/", stripe(event_id))
    ProcessedEvent.objects.update(attempts=1)
    with gate_closed() as gate, crew() as threads:
        one, other = (
            start(threads, inbox._BegunEvent(row_id, "default").step)
            for row_id in ProcessedEvent.objects.values_list("pk", flat=True)
        )
        until_waiting(2, AT_THE_GATE)
        gate.open()
        ends = {one.result(TIMEOUT), other.result(TIMEOUT)}
    assert ends == {Step.PROCESSED}


@pytest.mark.parametrize(("module", "verb"), [(due, "look"), (event_store, "take")])
def test_worker_whose_snapshot_is_too_old_leaves_the_event_to_the_other_one(
    module: Any, verb: str, connect_with: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the other one's lock was on another node, and was not to be seen."""
    connect_with(isolation_level=IsolationLevel.REPEATABLE_READ)
    status("/inbox/", stripe())
    act = getattr(module, verb)

    def act_late(*args: Any, **options: Any) -> Any:
        ProcessedEvent.objects.count()  # the snapshot
        with second_connection() as other, other.cursor() as cursor:
            cursor.execute(
                f"UPDATE {ProcessedEvent._meta.db_table} SET attempts = attempts + 1"  # noqa: S608
            )
        return act(*args, **options)

    with monkeypatch.context() as changed:
        changed.setattr(module, verb, act_late)
        assert process_next() is Step.TAKEN
    assert Order.objects.count() == 0
