"""A purge beside requests and beside another purge."""

from __future__ import annotations

import io
import re
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models.functions import Now

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, new_key, post, told
from tests.concurrency.conftest import Connect
from tests.concurrency.storm import (
    AT_THE_GATE,
    TIMEOUT,
    all_at_once,
    crew,
    gate_closed,
    start,
    until_waiting,
)
from tests.integration.test_purge import make_expired
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]


def purge(*arguments: str) -> int:
    out = io.StringIO()
    call_command("purge_idempotency_keys", *arguments, stdout=out, stderr=out)
    match = re.search(r"Purged (\d+)", out.getvalue())
    assert match is not None
    return int(match[1])


def expire(key: str) -> None:
    past = Now() - timedelta(seconds=1)
    IdempotencyRecord.objects.filter(key=key).update(expires_at=past)


def test_record_of_a_running_first_call_stays() -> None:  # FR-072
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        first = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        purged = purge()
        gate.open()
        first.result(TIMEOUT)

    assert (purged, post("/protected/", key).word) == (0, "201 replayed")


def test_expired_record_that_is_being_renewed_stays() -> None:  # FR-072
    key = new_key()
    post("/protected/", key)
    expire(key)
    with gate_closed() as gate, crew() as threads:
        renewal = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        purged = purge()
        gate.open()
        assert renewal.result(TIMEOUT).word == "201"

    assert (purged, post("/protected/", key).word) == (0, "201 replayed")
    assert Order.objects.count() == 2


LEVELS = [
    IsolationLevel.READ_COMMITTED,
    IsolationLevel.REPEATABLE_READ,
    IsolationLevel.SERIALIZABLE,
]


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_two_purges_share_the_work(
    connect_with: Connect, level: IsolationLevel
) -> None:
    make_expired(5000)
    connect_with(isolation_level=level)

    counts = all_at_once(2, lambda _: purge("--batch-size", "50"))

    assert sum(counts) == 5000
    assert not IdempotencyRecord.objects.exists()


def answered(key: str) -> Answer:
    """Send it again after a 500, as clients do: above READ COMMITTED the view's own
    statements may fail to be serialized with those of other requests."""
    answer = post("/protected/", key)
    return answered(key) if answer.status == 500 else answer


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_requests_go_on_during_a_purge(
    connect_with: Connect, level: IsolationLevel
) -> None:
    """FR-071: first calls, repeats and renewals of what is just being purged."""
    keys = [new_key() for _ in range(40)]
    for key in keys:
        post("/protected/", key)
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(hours=1))
    make_expired(5000)
    connect_with(isolation_level=level)

    def act(number: int) -> list[Answer]:
        if number == 3:
            purge("--batch-size", "50")
            return []
        return [answered(key) for key in keys[number::3] for _ in range(2)]

    answers = [answer for each in all_at_once(4, act) for answer in each]

    assert told(answers) == {"201": 40, "201 replayed": 40}
    assert Order.objects.count() == 80
