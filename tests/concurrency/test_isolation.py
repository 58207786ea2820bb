"""REPEATABLE READ and SERIALIZABLE: copies conflict, other keys don't."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, call, new_key, post, told
from tests.concurrency.conftest import Connect
from tests.concurrency.shop import scene
from tests.concurrency.storm import (
    AT_A_CLAIM,
    TIMEOUT,
    all_at_once,
    crew,
    gate_closed,
    second_connection,
    start,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]


@pytest.fixture(
    autouse=True,
    params=[IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE],
    ids=["repeatable read", "serializable"],
)
def _level(request: pytest.FixtureRequest, connect_with: Connect) -> None:
    connect_with(isolation_level=request.param)


def storm(key: str, *, copies: int) -> list[Answer]:
    with gate_closed() as gate, crew() as threads:
        futures = [start(threads, post, "/protected/", key) for _ in range(copies)]
        until_waiting(copies - 1, AT_A_CLAIM)
        gate.open()
        return [future.result(TIMEOUT) for future in futures]


def test_ten_copies_make_one_order() -> None:  # FR-081
    assert told(storm(new_key(), copies=10)) == {"201": 1, "201 replayed": 9}
    assert Order.objects.count() == 1


def test_ten_copies_of_a_released_key_make_one_order() -> None:
    key = new_key()
    scene.failures.append(ValueError())
    post("/protected/", key)

    assert told(storm(key, copies=10)) == {"201": 1, "201 replayed": 9}
    assert Order.objects.count() == 1


def test_copies_behind_a_leader_that_fails_make_one_order() -> None:
    scene.failures.append(ValueError())

    answers = storm(new_key(), copies=6)

    assert told(answers) == {"500": 1, "201": 1, "201 replayed": 4}
    assert Order.objects.count() == 1


def test_many_rounds_of_copies_make_one_order_each() -> None:
    keys = [new_key() for _ in range(10)]

    answers = all_at_once(8, lambda _: [post("/protected/", key) for key in keys])

    flat = [answer for each in answers for answer in each]
    assert told(flat) == {"201": 10, "201 replayed": 70}
    assert Order.objects.count() == 10


def test_different_keys_do_not_fail() -> None:  # FR-081
    """320 over 16 threads: what fails here, fails because of our own statements."""
    answers = all_at_once(
        16, lambda _: [post("/protected/", new_key()) for _ in range(20)]
    )

    flat = [answer for each in answers for answer in each]
    assert told(flat) == {"201": 320}
    assert Order.objects.count() == 320


def test_different_keys_that_are_repeated_do_not_fail() -> None:
    """Replays are looked up and counted while other keys are claimed and kept."""

    def send_twice(number: int) -> list[Answer]:
        keys = [new_key() for _ in range(10)]
        return [post("/protected/", key) for key in keys for _ in range(2)]

    flat = [answer for each in all_at_once(8, send_twice) for answer in each]

    assert told(flat) == {"201": 80, "201 replayed": 80}


@pytest.mark.parametrize("kind", ["expired", "released"])
def test_different_keys_that_are_renewed_do_not_fail(kind: str) -> None:
    """All of them stand on the same few pages of the table and of its index."""
    keys = [new_key() for _ in range(160)]
    for key in keys:
        post("/protected/", key)
    if kind == "expired":
        IdempotencyRecord.objects.update(expires_at=Now() - timedelta(hours=1))
    else:
        IdempotencyRecord.objects.update(state="released")

    answers = all_at_once(
        16, lambda n: [post("/protected/", key) for key in keys[n::16]]
    )

    assert told(answer for each in answers for answer in each) == {"201": 160}
    assert Order.objects.count() == 320


@idempotent(lease=timedelta(minutes=1))
def leased(request: IdempotentRequest) -> HttpResponse:
    order = request.idempotency.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({"order": order}, status=201)


def call_until_answered(key: str) -> Answer:
    """As a client does; a step's own conflict is an error, and the retry resumes."""
    for _ in range(20):
        with contextlib.suppress(OperationalError):
            answer = call(leased, key)
            if answer.status == 201:
                return answer
    raise AssertionError("not answered")


def test_copies_of_leased_operations_make_one_order_each() -> None:
    keys = [new_key() for _ in range(10)]

    answers = all_at_once(8, lambda _: [call_until_answered(key) for key in keys])

    flat = [answer for each in answers for answer in each]
    assert told(flat) == {"201": 10, "201 replayed": 70}
    assert Order.objects.count() == 10
    assert len({answer.body for answer in flat}) == 10


def test_conflict_of_the_views_own_frees_the_key() -> None:  # FR-081
    """At the first try another session changes the row that the view has read."""
    stock = Order.objects.create(amount=5)
    others = [1]

    @idempotent
    def take_one(request: IdempotentRequest) -> HttpResponse:
        amount = Order.objects.get(pk=stock.pk).amount
        if others:
            with second_connection() as other, other.cursor() as cursor:
                cursor.execute(
                    "UPDATE testapp_order SET amount = amount - %s", [others.pop()]
                )
        Order.objects.filter(pk=stock.pk).update(amount=amount - 1)
        return HttpResponse(status=201)

    key = new_key()
    with pytest.raises(OperationalError, match="could not serialize"):
        call(take_one, key)

    assert [call(take_one, key).word for _ in range(2)] == ["201", "201 replayed"]
    assert Order.objects.get().amount == 3
