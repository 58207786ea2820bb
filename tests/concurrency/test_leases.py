"""Whose clock and whose lease decide, and what waits for a slow owner meanwhile."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from django.urls import path
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import records
from tests.concurrency.conftest import Connect
from tests.support.client import Answer, call, new_key, post, told
from tests.support.records import change
from tests.support.threads import (
    TIMEOUT,
    all_at_once,
    connections_in_use,
    crew,
    second_connection,
    start,
    until,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]


MINUTE, FIVE_MINUTES = timedelta(minutes=1), timedelta(minutes=5)


# Clocks


@contextmanager
def wrong_clock(fast_by: timedelta) -> Iterator[None]:
    """The clock of this process, not that of the database, wherever it is read."""
    right_time, right_now = time.time, timezone.now
    clocks: dict[Any, Callable[[], Any]] = {
        right_time: lambda: right_time() + fast_by.total_seconds(),
        right_now: lambda: right_now() + fast_by,
    }
    with pytest.MonkeyPatch.context() as changed:
        for where, module in list(sys.modules.items()):
            if where.startswith(("time", "django.utils.", "django_idempotency")):
                for name, found in list(vars(module).items()):
                    if found is right_time or found is right_now:
                        changed.setattr(module, name, clocks[found])
        yield


def age_of_the_clock() -> float:
    """By how many seconds what this process takes for now is ahead of the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float")
        right: float = cursor.fetchone()[0]
    return (time.time() + timezone.now().timestamp()) / 2 - right


def test_clock_of_the_process_is_wrong_indeed() -> None:
    """The negative control."""
    with wrong_clock(FIVE_MINUTES):
        assert 290 < age_of_the_clock() < 310
    assert abs(age_of_the_clock()) < 10


def lease_left() -> timedelta:
    """Of the only record, by the database's clock."""
    (left,) = IdempotencyRecord.objects.annotate(
        left=F("lease_expires_at") - Now()
    ).values_list("left", flat=True)
    assert isinstance(left, timedelta)
    return left


def let_the_lease_end() -> None:
    IdempotencyRecord.objects.update(lease_expires_at=Now() - timedelta(seconds=1))


def charge(request: IdempotentRequest) -> HttpResponse:
    return placed(request.idempotency.call("charge", slow.call))


impatient, hasty, patient = (
    idempotent(lease=MINUTE, wait=timedelta(seconds=wait))(charge)
    for wait in (0, 0.3, 20)
)


@contextmanager
def owner_in_its_call(key: str) -> Iterator[Future[Answer]]:
    with crew() as threads:
        owner = start(threads, call, impatient, key)
        assert slow.began.wait(TIMEOUT)
        try:
            yield owner
        finally:
            slow.ends.set()


BOTH_WAYS = pytest.mark.parametrize("fast_by", [FIVE_MINUTES, -FIVE_MINUTES])


@BOTH_WAYS
def test_take_over_is_decided_by_the_clock_of_the_database(fast_by: timedelta) -> None:
    """FR-022: a wrong clock neither steals early nor waits longer."""
    key = new_key()
    with owner_in_its_call(key) as owner:
        ends, slow.ends = slow.ends, threading.Event()
        slow.ends.set()  # for whoever takes over
        with wrong_clock(fast_by):
            early = call(impatient, key)
            let_the_lease_end()
            after = call(impatient, key)
        ends.set()
        late = owner.result(TIMEOUT)

    assert early.word == "409 in-flight"
    assert 20 <= int(early.headers["Retry-After"]) <= MINUTE.total_seconds()
    assert (after.word, late.word) == ("201", "409 in-flight")
    assert Order.objects.count() == 1


@BOTH_WAYS
def test_lease_of_an_owner_with_a_wrong_clock_has_its_right_length(
    fast_by: timedelta,
) -> None:
    """FR-022."""
    key = new_key()
    with ExitStack() as stack:
        with wrong_clock(fast_by):
            owner = stack.enter_context(owner_in_its_call(key))
        left, early = lease_left(), call(impatient, key)

    assert timedelta(seconds=20) < left <= MINUTE
    assert early.word == "409 in-flight"
    assert owner.result(TIMEOUT).word == "201"


def test_of_copies_behind_a_dead_owner_one_takes_over() -> None:
    """FR-013: the record is as a process leaves it that was killed in its call."""
    key = new_key()
    slow.ends.set()
    call(impatient, key)
    Order.objects.all().delete()
    change(state="in_flight", lease_expires_at=Now() - timedelta(seconds=1), effects={})

    answers = told(all_at_once(5, lambda _: call(impatient, key)))

    assert answers["201"] == 1
    assert set(answers) <= {"201", "409 in-flight", "201 replayed"}
    assert Order.objects.count() == 1


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


slow = Slow()


@pytest.fixture(autouse=True)
def _fresh_call() -> None:
    slow.reset()


def placed(charge: Any) -> HttpResponse:
    return JsonResponse(
        {"order": Order.objects.create().pk, "charge": charge}, status=201
    )


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
    [("/patient/", {"201 replayed": 20}), ("/hasty/", {"409 in-flight": 20})],
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


def lost(key: str) -> None:
    raise TimeoutError


@pytest.mark.usefixtures("pool_of_five")
@pytest.mark.parametrize("is_unknown", [False, True], ids=["call", "look-up"])
def test_call_and_look_up_hold_no_connection_of_the_pool(is_unknown: bool) -> None:
    key = new_key()

    def view_with(fn: Any) -> Any:
        @idempotent(lease=MINUTE)
        def view(request: IdempotentRequest) -> HttpResponse:
            steps = request.idempotency
            return placed(steps.call("charge", fn, if_unknown=slow.call))

        return view

    if is_unknown:
        with pytest.raises(TimeoutError):
            call(view_with(lost), key)
    with crew() as threads:
        served = start(threads, call, view_with(slow.call), key)
        assert slow.began.wait(TIMEOUT)
        connection.close()
        until(lambda: connections_in_use() == 0)
        slow.ends.set()
        answer = served.result(TIMEOUT)

    assert answer.json["charge"] == "ch_1"


@pytest.mark.parametrize("verb", ["begin_call", "remember", "keep_leased"])
def test_what_an_owner_stores_is_stored_again_if_another_session_was_first(
    verb: str, connect_with: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was written, for certain; an error would make the call unknown."""
    connect_with(isolation_level=IsolationLevel.REPEATABLE_READ)
    store, others = getattr(records, verb), [1]
    calls: list[str] = []

    def store_late(*args: Any, **options: Any) -> None:
        IdempotencyRecord.objects.count()  # the snapshot
        while others:
            table = IdempotencyRecord._meta.db_table
            with second_connection() as other, other.cursor() as cursor:
                cursor.execute(f"UPDATE {table} SET replays = {others.pop()}")  # noqa: S608
        store(*args, **options)

    @idempotent(lease=timedelta(minutes=1))
    def view(request: IdempotentRequest) -> HttpResponse:
        request.idempotency.call("charge", calls.append)
        return HttpResponse(status=201)

    monkeypatch.setattr(records, verb, store_late)

    assert call(view, new_key()).word == "201"
    assert (len(calls), others) == (1, [])
