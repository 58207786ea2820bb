"""The connection's own time-outs are in force wherever the project's code runs."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from django_idempotency.claiming import FIRST_WAIT
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import call, new_key, post
from tests.concurrency.conftest import Connect
from tests.concurrency.shop import held, inner, inner_hasty, refused, scene
from tests.concurrency.storm import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    crew,
    gate_closed,
    start,
    until_waiting,
)

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.direct,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]


OWN = "12345ms 1min"


@pytest.fixture(autouse=True)
def _of_the_project(connect_with: Connect) -> None:
    connect_with(options="-c lock_timeout=12345ms -c statement_timeout=1min")


def expire_all() -> None:
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(seconds=1))


def limits() -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        return " ".join(cursor.fetchone())


def test_in_the_view_of_a_first_call() -> None:
    assert post("/protected/", new_key()).json["limits"] == OWN


def test_in_the_view_of_a_renewed_record() -> None:
    key = new_key()
    post("/protected/", key)
    expire_all()

    assert post("/protected/", key).json["limits"] == OWN


def test_in_the_view_of_a_released_record() -> None:
    key = new_key()
    scene.failures.append(ValueError())
    post("/protected/", key)

    assert post("/protected/", key).json["limits"] == OWN


@pytest.mark.parametrize("exists", [False, True], ids=["new", "released"])
def test_in_the_view_of_a_copy_that_took_over(exists: bool) -> None:
    key = new_key()
    scene.failures.extend(ValueError() for _ in range(1 + exists))
    if exists:
        post("/protected/", key)
    with gate_closed() as gate, crew() as threads:
        leader = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        copy = start(threads, post, "/protected/", key)
        until_waiting(1, AT_A_CLAIM)
        time.sleep(2 * FIRST_WAIT.total_seconds())  # so that it waits for the rest, too
        gate.open()
        assert leader.result(TIMEOUT).status == 500

    assert copy.result(TIMEOUT).json["limits"] == OWN


@pytest.mark.parametrize(
    "kind",
    ["new", "replay", "expired", "released", "mismatch", "unfinished"],
)
def test_in_a_foreign_transaction_after_the_protected_view(kind: str) -> None:
    key = new_key()
    if kind in {"replay", "expired", "mismatch", "unfinished"}:
        call(inner, key)
    if kind == "expired":
        expire_all()
    elif kind == "unfinished":
        IdempotencyRecord.objects.update(state="in_flight")
    elif kind == "released":
        call(refused, key)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '6789ms'")
        cursor.execute("SET LOCAL statement_timeout = '54321ms'")
        word = call(inner, key, amount=2 if kind == "mismatch" else 1).word
        found = limits()

    assert (word, found) == (WORDS[kind], "6789ms 54321ms")


WORDS = {
    "new": "201",
    "replay": "201 replayed",
    "expired": "201",
    "released": "201",
    "mismatch": "422 key-reused",
    "unfinished": "409 in-flight",
}


def test_in_a_foreign_transaction_after_a_wait_that_is_over() -> None:
    key = new_key()

    def inside() -> tuple[str, str]:
        with transaction.atomic():
            return call(inner_hasty, key).word, limits()

    with gate_closed() as gate, crew() as threads:
        leader = start(threads, call, held, key)
        until_waiting(1, AT_THE_GATE)
        found = start(threads, inside).result(TIMEOUT)
        gate.open()
        leader.result(TIMEOUT)

    assert found == ("409 in-flight", OWN)


def test_on_the_connection_after_the_request() -> None:
    key = new_key()
    for _ in range(2):
        call(inner, key)

    assert limits() == OWN


def test_on_the_connection_after_a_failed_attempt() -> None:
    call(refused, new_key())

    assert limits() == OWN
