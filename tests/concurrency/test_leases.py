"""Whose clock and whose lease decide, and what waits for a slow owner meanwhile."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, call, new_key, post, told
from tests.concurrency.leased.checkout import LONG_LEASE
from tests.concurrency.leased.processes import Shop, bank, order, shop
from tests.concurrency.storm import TIMEOUT, connections_in_use, crew, start, until
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]


# Clocks


def lease_left() -> timedelta:
    """Of the only record, by the database's clock."""
    (left,) = IdempotencyRecord.objects.annotate(
        left=F("lease_expires_at") - Now()
    ).values_list("left", flat=True)
    assert isinstance(left, timedelta)
    return left


def let_the_lease_end() -> None:
    IdempotencyRecord.objects.update(lease_expires_at=Now() - timedelta(seconds=1))


@contextmanager
def stopped_owner(at: Shop, key: str) -> Iterator[Future[Answer | None]]:
    """Somebody holds a lease of 30 seconds, and sits still in its first call."""
    clean = order(at, "long", new_key(), -1)
    assert clean is not None
    IdempotencyRecord.objects.all().delete()
    point = json.loads(clean.headers["Doom-Points"]).index("before charges")
    with crew() as threads:
        owner = threads.submit(order, at, "long", key, 1, doom=point, by=signal.SIGSTOP)
        until(lambda: len(at.stopped()) == 1)
        yield owner
        at.go_on()


def word(answer: Answer | None) -> str:
    return "died" if answer is None else answer.word


FIVE_MINUTES = 300


@pytest.mark.parametrize("fast_by", [FIVE_MINUTES, -FIVE_MINUTES])
def test_take_over_is_decided_by_the_clock_of_the_database(fast_by: int) -> None:
    """FR-022: a wrong clock neither steals early nor waits longer."""
    key = new_key()
    with (
        bank() as other_side,
        shop(other_side) as right,
        shop(other_side, clock_seconds=fast_by) as wrong,
        stopped_owner(right, key) as owner,
    ):
        early = order(wrong, "long", key, 1)
        assert early is not None
        let_the_lease_end()
        after = order(wrong, "long", key, 1)
        right.go_on()
        late = owner.result(TIMEOUT)
        done = other_side.counts("done")

    assert early.word == "409 in-flight"
    assert 20 <= int(early.headers["Retry-After"]) <= LONG_LEASE.total_seconds()
    assert (word(after), word(late)) == ("201", "409 in-flight")
    assert (done["charges", 1], Order.objects.filter(amount=1).count()) == (1, 1)


@pytest.mark.parametrize("fast_by", [FIVE_MINUTES, -FIVE_MINUTES])
def test_lease_of_an_owner_with_a_wrong_clock_has_its_right_length(
    fast_by: int,
) -> None:
    """FR-022."""
    key = new_key()
    with (
        bank() as other_side,
        shop(other_side) as right,
        shop(other_side, clock_seconds=fast_by) as wrong,
        stopped_owner(wrong, key) as owner,
    ):
        left = lease_left()
        early = order(right, "long", key, 1)
        wrong.go_on()
        answer = owner.result(TIMEOUT)

    assert timedelta(seconds=20) < left <= LONG_LEASE
    assert (word(early), word(answer)) == ("409 in-flight", "201")


def test_clock_of_the_process_is_wrong_indeed() -> None:
    """The negative control: what the process writes by its own clock is wrong."""
    with bank() as other_side, shop(other_side, clock_seconds=FIVE_MINUTES) as wrong:
        answer = order(wrong, "clock", new_key(), 1)

    assert answer is not None
    assert 290 < float(answer.body) < 310


# Two views that share a scope


@contextmanager
def slow_owner(lease: timedelta, key: str) -> Iterator[Future[Answer]]:
    """A request that holds this lease until the end of the block."""
    began, ends = threading.Event(), threading.Event()

    @idempotent(lease=lease, wait=timedelta(0))
    def view(request: HttpRequest) -> HttpResponse:
        began.set()
        assert ends.wait(TIMEOUT)
        return HttpResponse(status=201)

    with crew() as threads:
        owner = start(threads, call, view, key)
        assert began.wait(TIMEOUT)
        try:
            yield owner
        finally:
            ends.set()


def shares_its_scope(lease: timedelta, key: str) -> Answer:
    @idempotent(lease=lease, wait=timedelta(0))
    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(status=202)

    return call(view, key)


MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def test_short_lease_of_the_caller_steals_no_long_one() -> None:
    """FR-016: the claim is ten seconds old."""
    key = new_key()
    with slow_owner(MINUTE, key) as owner:
        claimed_before(timedelta(seconds=10))
        early = shares_its_scope(SECOND, key)

    assert early.word == "409 in-flight"
    assert 40 <= int(early.headers["Retry-After"]) <= 50
    assert owner.result(TIMEOUT).word == "201"


def test_long_lease_of_the_caller_prolongs_no_short_one() -> None:
    """FR-016."""
    key = new_key()
    with slow_owner(SECOND, key) as owner:
        claimed_before(timedelta(seconds=10))
        words = [shares_its_scope(MINUTE, key).word for _ in range(2)]

    assert words == ["202", "202 replayed"]
    assert owner.result(TIMEOUT).word == "409 in-flight"


def claimed_before(age: timedelta) -> None:
    """Make the claim so old."""
    IdempotencyRecord.objects.update(
        lease_expires_at=F("lease_expires_at") - age, created_at=F("created_at") - age
    )


# A slow operation and a small pool


class Slow:
    """An outside call that lasts as long as the test wants."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.began, self.ends = threading.Event(), threading.Event()

    def call(self, key: str) -> str:
        self.began.set()
        assert self.ends.wait(TIMEOUT)
        return "ch_1"

    def find(self, key: str) -> str:
        return self.call(key)


slow = Slow()


@pytest.fixture(autouse=True)
def _fresh_call() -> None:
    slow.reset()


def placed(charge: Any) -> HttpResponse:
    return JsonResponse(
        {"order": Order.objects.create().pk, "charge": charge}, status=201
    )


@idempotent(lease=MINUTE, wait=timedelta(seconds=20))
def patient(request: IdempotentRequest) -> HttpResponse:
    return placed(request.idempotency.call("charge", slow.call))


@idempotent(lease=MINUTE, wait=timedelta(milliseconds=300))
def hasty(request: IdempotentRequest) -> HttpResponse:
    return placed(request.idempotency.call("charge", slow.call))


@idempotent
def unrelated(request: IdempotentRequest) -> HttpResponse:
    return placed(None)


urlpatterns = [
    path("patient/", csrf_exempt(patient)),
    path("hasty/", csrf_exempt(hasty)),
    path("unrelated/", csrf_exempt(unrelated)),
]


@pytest.mark.parametrize(
    ("path", "copies"),
    [
        ("/patient/", {"201 replayed": 20}),
        ("/hasty/", {"409 in-flight": 20}),
    ],
)
@pytest.mark.usefixtures("pool_of_five")
def test_slow_operation_and_its_copies_leave_the_pool_to_others(
    path: str, copies: dict[str, int]
) -> None:
    """FR-082 in the leased shape: five others are served while twenty copies wait."""
    key = new_key()
    with crew() as threads:
        first = start(threads, post, path, key)
        assert slow.began.wait(TIMEOUT)
        connection.close()
        waiting = [start(threads, post, path, key) for _ in range(20)]
        others = [start(threads, post, "/unrelated/", new_key()) for _ in range(5)]
        words = told(each.result(TIMEOUT) for each in others)
        is_still_slow = not first.done()
        if "hasty" in path:
            told_copies = told(each.result(TIMEOUT) for each in waiting)
        slow.ends.set()
        if "patient" in path:
            told_copies = told(each.result(TIMEOUT) for each in waiting)

    assert (words, is_still_slow, told_copies) == ({"201": 5}, True, copies)
    assert first.result().word == "201"


@pytest.mark.usefixtures("pool_of_five")
def test_call_holds_no_connection_of_the_pool() -> None:
    with crew() as threads:
        first = start(threads, post, "/patient/", new_key())
        assert slow.began.wait(TIMEOUT)
        connection.close()
        until(lambda: connections_in_use() == 0)
        slow.ends.set()
        assert first.result(TIMEOUT).word == "201"


@pytest.mark.usefixtures("pool_of_five")
def test_look_up_holds_no_connection_of_the_pool() -> None:
    key = new_key()

    def lost(key: str) -> None:
        raise TimeoutError

    def view_with(fn: Any) -> Any:
        @idempotent(lease=MINUTE)
        def view(request: IdempotentRequest) -> HttpResponse:
            steps = request.idempotency
            return placed(steps.call("charge", fn, if_unknown=slow.find))

        return view

    with pytest.raises(TimeoutError):
        call(view_with(lost), key)
    with crew() as threads:
        retry = start(threads, call, view_with(slow.call), key)
        assert slow.began.wait(TIMEOUT)
        connection.close()
        until(lambda: connections_in_use() == 0)
        slow.ends.set()
        answer = retry.result(TIMEOUT)

    assert answer.json["charge"] == "ch_1"
