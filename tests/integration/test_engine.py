"""What the engine makes of a row that is there: run, replay or refuse."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.http import HttpResponse

from django_idempotency import engine, store
from django_idempotency.decisions import Held, InFlight, Mismatch, Replay, Unreadable
from django_idempotency.decorators import idempotent
from django_idempotency.engine import Outcome, Ran
from django_idempotency.fingerprints import fingerprint_of
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations import Operation, Scope, StoredAnswer
from django_idempotency.steps import Steps
from tests.concurrency.answers import call, new_key
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)

OPERATION = Operation(
    scope=Scope(principal="auth.User:1", method="POST", path="/orders/"),
    key="k",
    fingerprint=fingerprint_of(b"payload"),
    wait=timedelta(0),
    retention=timedelta(hours=1),
)
ANSWER = StoredAnswer(status=201, headers=(("X-Order", "1"),), body=b"one")


def place(**outcome: Any) -> Callable[[Steps], Outcome[str]]:
    def work(steps: Steps) -> Outcome[str]:
        Order.objects.create()
        return Outcome(**{"value": "ran", "keep": True, "answer": ANSWER, **outcome})

    return work


def run(
    work: Callable[[Steps], Outcome[str]] | None = None,
    *,
    operation: Operation = OPERATION,
) -> engine.Result[str]:
    return engine.run(
        operation,
        place() if work is None else work,
        using="default",
        failure_of=lambda error: type(error).__name__,
    )


def change(**columns: Any) -> None:
    """Change the record as nobody but a person with SQL would."""
    assert IdempotencyRecord.objects.update(**columns) == 1


def expire() -> None:
    change(expires_at=Now() - timedelta(seconds=1))


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def test_first_call_runs() -> None:
    assert run() == Ran("ran")
    assert Order.objects.count() == 1


def test_repeat_gets_the_stored_answer() -> None:
    run()

    assert run() == Replay(ANSWER)
    assert Order.objects.count() == 1


def test_answer_without_a_body_is_replayed_without_one() -> None:
    answer = replace(ANSWER, body=None)
    run(place(answer=answer))

    assert run() == Replay(answer)


def test_other_payload_is_a_mismatch() -> None:
    run()

    assert run(operation=replace(OPERATION, fingerprint=fingerprint_of(b"?"))) == (
        Mismatch()
    )


def test_mismatch_leaves_the_first_record_good() -> None:
    run()
    run(operation=replace(OPERATION, fingerprint=fingerprint_of(b"?")))

    assert run() == Replay(ANSWER)


def test_payload_of_a_released_record_may_not_change() -> None:
    run(place(keep=False, answer=None, failure=""))

    assert run(operation=replace(OPERATION, fingerprint=fingerprint_of(b"?"))) == (
        Mismatch()
    )


def test_row_of_another_scope_under_the_same_id_is_a_mismatch() -> None:
    run()
    change(scope="auth.User:2|POST|/orders/")

    assert run() == Mismatch()


# Rows that were made by hand


def test_claim_without_a_lease_is_not_taken_over() -> None:
    run()  # FR-015, T9
    change(state="in_flight", lease_token=None, lease_expires_at=None)

    assert run() == InFlight()
    assert Order.objects.count() == 1


def test_claim_with_a_lease_that_is_over_is_taken_over() -> None:
    """It belongs to the other shape; the stored lease decides, whoever asks."""
    run()
    change(state="in_flight", lease_expires_at=Now() - timedelta(seconds=1))

    assert run() == Ran("ran")


def test_claim_with_a_live_lease_is_respected() -> None:
    run()
    change(state="in_flight", lease_expires_at=Now() + timedelta(hours=1))
    in_flight = run()

    assert isinstance(in_flight, InFlight)
    assert in_flight.retry_after is not None
    assert timedelta(minutes=59) < in_flight.retry_after < timedelta(minutes=61)


def test_claim_without_a_lease_is_free_when_it_expires() -> None:
    run()
    change(state="in_flight")
    expire()

    assert run() == Ran("ran")


@pytest.mark.parametrize("expired", [False, True])
def test_held_record_waits_for_a_person(expired: bool) -> None:
    run()
    change(state="held")
    if expired:
        expire()

    assert run() == Held()
    assert Order.objects.count() == 1


UNREADABLE = [
    pytest.param({"response_headers": "text"}, id="text"),
    pytest.param({"response_headers": 7}, id="number"),
    pytest.param({"response_headers": ["X"]}, id="no pairs"),
    pytest.param({"response_headers": [["X", "1", "2"]]}, id="triples"),
    pytest.param({"response_headers": {"Content-Type": "text/plain"}}, id="object"),
    pytest.param({"response_status": 0}, id="status 0"),
    pytest.param({"response_status": 999}, id="status 999"),
    pytest.param({"response_headers": [["X", "a\nSet-Cookie: b"]]}, id="line break"),
    pytest.param({"response_headers": [["X\r\nY", "1"]]}, id="line break in a name"),
    pytest.param({"response_headers": [["Ä", "1"]]}, id="name beyond ASCII"),
]


@pytest.mark.parametrize("columns", UNREADABLE)
def test_answer_that_cannot_be_read_is_never_made_again(
    columns: dict[str, Any],
) -> None:
    run()  # FR-017
    change(**columns)

    assert run() == Unreadable()
    assert Order.objects.count() == 1


@pytest.mark.parametrize("columns", UNREADABLE)
def test_client_is_told_that_the_answer_cannot_be_shown(
    columns: dict[str, Any],
) -> None:
    @idempotent
    def view(request: IdempotentRequest) -> Any:
        raise AssertionError

    key = new_key()
    call(idempotent(placed), key)
    change(**columns)

    assert call(view, key).word == "409 answer-unavailable"


def placed(request: IdempotentRequest) -> HttpResponse:
    return HttpResponse(status=201)


def test_answer_that_cannot_be_read_is_logged_as_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run()
    change(response_headers="text")
    with caplog.at_level(logging.ERROR, logger="django_idempotency"):
        run()

    assert [each.levelname for each in caplog.records] == ["ERROR"]


# Attempts that fail


def test_failure_is_noted_on_a_released_record() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda steps: 1 // 0)  # type: ignore[arg-type,return-value]

    assert (record().state, record().attempts, record().last_error) == (
        "released",
        1,
        "ZeroDivisionError",
    )


def test_each_failure_counts_as_an_attempt() -> None:
    for _ in range(3):
        run(place(keep=False, answer=None, failure="failed"))

    assert record().attempts == 3


def test_attempts_include_the_one_that_succeeded() -> None:
    run(place(keep=False, answer=None, failure="failed"))
    run()

    assert (record().state, record().attempts) == ("kept", 2)


def test_failure_without_a_note_leaves_no_record() -> None:
    run(place(keep=False, answer=None, failure=None))

    assert not IdempotencyRecord.objects.exists()


def test_writes_of_a_failure_are_rolled_back() -> None:
    run(place(keep=False, answer=None, failure=""))

    assert Order.objects.count() == 0


def test_answer_of_a_failure_can_be_kept_without_its_writes() -> None:
    run(place(keep=False))

    assert run() == Replay(ANSWER)
    assert Order.objects.count() == 0


def test_failure_over_an_expired_record_leaves_that_one() -> None:
    run()
    expire()
    run(place(keep=False, answer=None, failure="failed"))

    assert record().state == "kept"
    assert run() == Ran("ran")


# New lives


def test_expired_record_is_a_new_operation() -> None:
    run()
    expire()

    assert run(place(value="again")) == Ran("again")
    assert Order.objects.count() == 2


def test_new_life_forgets_the_old_one() -> None:
    run()
    change(attempts=5, replays=7, effects={"a": 1}, last_error="E")
    expire()
    run(operation=replace(OPERATION, fingerprint=fingerprint_of(b"?")))
    found = record()

    assert (found.attempts, found.replays, found.effects, found.last_error) == (
        1,
        0,
        {},
        "",
    )


def test_new_life_has_its_own_retention() -> None:
    run()
    expire()
    run()

    life = record().expires_at - record().created_at
    assert abs(life - timedelta(hours=1)) < timedelta(seconds=1)


def test_another_attempt_keeps_what_is_remembered() -> None:
    run(place(keep=False, answer=None, failure="failed"))
    change(effects={"a": 1})
    created_at = record().created_at
    run()

    assert (record().effects, record().created_at) == ({"a": 1}, created_at)


# Views that touch what is not theirs


def test_view_that_deletes_its_own_record_commits_nothing() -> None:
    def work(steps: Steps) -> Outcome[str]:
        IdempotencyRecord.objects.all().delete()
        return place()(steps)

    with pytest.raises(RuntimeError, match="Nothing was committed"):
        run(work)

    assert Order.objects.count() == 0


def test_claim_leaves_no_transaction_open() -> None:
    for _ in range(2):
        run()

    assert not connection.in_atomic_block


def test_records_are_written_where_the_router_says() -> None:
    assert store.record_alias() == "default"
