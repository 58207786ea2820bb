"""Of copies that arrive together one runs, at each level; other keys don't conflict."""

import contextlib
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models.functions import Now
from django.http import HttpResponse

from django_idempotency.conf import conf
from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.conftest import AT_THE_SHOP, Connect
from tests.concurrency.leader import storm
from tests.concurrency.shop import leased, scene
from tests.concurrency.test_purge_under_traffic import LEVELS
from tests.support.cases import cases
from tests.support.client import Answer, call, new_key, post, told
from tests.support.records import expire
from tests.support.threads import (
    AT_THE_GATE,
    all_at_once,
    crew,
    gate_closed,
    second_connection,
    start,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP


@pytest.fixture(autouse=True, params=LEVELS, ids=lambda level: level.name)
def level(request: pytest.FixtureRequest, connect_with: Connect) -> int:
    connect_with(isolation_level=request.param)
    chosen: int = request.param
    return chosen


def require_all_answered(answers: list[list[Answer]], level: int) -> int:
    """Return how many succeeded: all of them, where a row is found at its place.

    Found by the index alone, different keys meet on its pages at SERIALIZABLE: W064.
    """
    words = told(answer for each in answers for answer in each)
    if conf.IDEMPOTENCY_DISTRIBUTED and level == IsolationLevel.SERIALIZABLE:
        assert words.keys() <= {"201", "500"}
    else:
        assert words == {"201": 160}
    return words["201"]


@cases(
    "before, failures",
    {
        "new": ("nothing", 0),
        "expired (FR-070)": ("expired", 0),
        "released": ("released", 0),
        "first fails": ("nothing", 1),
        "four fail": ("nothing", 4),
    },
)
def test_of_twenty_copies_one_runs_and_the_others_get_its_bytes(
    before: str, failures: int
) -> None:
    """FR-001, FR-081; FR-002: all have found nothing before the first has written."""
    key = new_key()
    if before == "released":
        scene.failures.append(ValueError())
    if before != "nothing":
        post("/protected/", key)
    if before == "expired":
        expire()
    scene.failures.extend(ValueError() for _ in range(failures))

    answers = storm("/protected/", key, copies=20)

    failed = {"500": failures} if failures else {}
    assert told(answers) == failed | {"201": 1, "201 replayed": 19 - failures}
    assert len({answer.body for answer in answers if answer.status == 201}) == 1
    assert scene.calls == 1 + failures + (before != "nothing")
    assert Order.objects.count() == 1 + (before == "expired")


def test_copies_that_nobody_holds_back_make_one_order_each() -> None:  # FR-107
    keys = [new_key() for _ in range(10)]

    answers = all_at_once(8, lambda _: [post("/protected/", key) for key in keys])

    flat = [answer for each in answers for answer in each]
    assert told(flat) == {"201": 10, "201 replayed": 70}
    assert Order.objects.count() == 10


def test_different_keys_do_not_fail(level: int) -> None:  # FR-081
    """160 over 16 threads: what fails here, fails because of our own statements."""
    answers = all_at_once(
        16, lambda _: [post("/protected/", new_key()) for _ in range(10)]
    )

    assert Order.objects.count() == require_all_answered(answers, level)


@pytest.mark.parametrize("kind", ["expired", "released"])
def test_different_keys_that_are_renewed_do_not_fail(kind: str, level: int) -> None:
    """All of them stand on the same few pages of the table and of its index."""
    keys = [new_key() for _ in range(160)]
    for key in keys:
        post("/protected/", key)
    Order.objects.all().delete()
    if kind == "expired":
        IdempotencyRecord.objects.update(expires_at=Now() - timedelta(hours=1))
    else:
        IdempotencyRecord.objects.update(state="released")

    answers = all_at_once(
        16, lambda n: [post("/protected/", key) for key in keys[n::16]]
    )

    assert Order.objects.count() == require_all_answered(answers, level)


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


@pytest.mark.parametrize(
    "level", LEVELS[1:], ids=lambda level: level.name, indirect=True
)
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


def test_different_keys_do_not_wait_for_each_other() -> None:
    with gate_closed() as gate, crew() as threads:
        futures = [start(threads, post, "/protected/", new_key()) for _ in range(8)]
        until_waiting(8, AT_THE_GATE)
        gate.open()

    assert told(future.result() for future in futures) == {"201": 8}


def test_the_same_storm_without_protection_makes_twenty_orders() -> None:
    answers = storm("/unprotected/", new_key(), copies=20, held=20, at=AT_THE_GATE)

    assert told(answers) == {"201": 20}
    assert Order.objects.count() == 20


def test_three_saves_with_pauses_are_one_execution() -> None:  # FR-011
    answers = storm("/in-three-steps/", new_key(), copies=2)

    assert told(answers) == {"201": 1, "201 replayed": 1}
    assert Order.objects.count() == 3
