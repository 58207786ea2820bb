"""What the engine makes of a row that is there: run, replay or refuse."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now

from django_idempotency.core.decisions import Mismatch, Replay
from django_idempotency.engine import atomic as engine
from django_idempotency.engine.steps import Steps
from django_idempotency.engine.work import Outcome, Ran, Result
from tests.support.records import change, expire, record
from tests.support.values import ANSWER, OPERATION
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True)
FAILED: dict[str, Any] = {"commits": False, "answer": None, "failure": "failed"}


def place(**outcome: Any) -> Callable[[Steps], Outcome[str]]:
    def work(steps: Steps) -> Outcome[str]:
        Order.objects.create()
        return Outcome(**{"value": "ran", "commits": True, "answer": ANSWER, **outcome})

    return work


def run(work: Callable[[Steps], Outcome[str]] | None = None) -> Result[str]:
    return engine.run(
        OPERATION, work or place(), failure_of=lambda error: type(error).__name__
    )


def test_first_call_runs_and_a_repeat_gets_the_stored_answer() -> None:
    assert [run(), run()] == [Ran("ran", is_kept=True), Replay(ANSWER)]
    assert Order.objects.count() == 1


def test_answer_without_a_body_is_replayed_without_one() -> None:
    answer = replace(ANSWER, body=None)
    run(place(answer=answer))

    assert run() == Replay(answer)


def test_row_of_another_scope_under_the_same_id_is_a_mismatch() -> None:
    run()
    change(scope="auth.User:2|POST|/orders/")

    assert run() == Mismatch()


def test_claim_with_a_lease_that_is_over_is_taken_over() -> None:
    """It belongs to the other shape; the stored lease decides, whoever asks."""
    run()
    change(state="in_flight", lease_expires_at=Now() - timedelta(seconds=1))

    assert run() == Ran("ran", is_kept=True)


# Attempts that fail


def test_answer_of_a_failure_can_be_kept_without_its_writes() -> None:
    run(place(commits=False))

    assert run() == Replay(ANSWER)
    assert Order.objects.count() == 0


def test_failure_over_an_expired_record_leaves_that_one() -> None:
    run()
    expire()
    run(place(**FAILED))

    assert record().state == "kept"
    assert run() == Ran("ran", is_kept=True)


def test_another_attempt_keeps_what_is_remembered() -> None:
    run(place(**FAILED))
    change(effects={"a": 1})
    created_at = record().created_at
    run()

    assert (record().effects, record().created_at) == ({"a": 1}, created_at)


def test_claim_leaves_no_transaction_open() -> None:
    for _ in range(2):
        run()

    assert not connection.in_atomic_block
