"""A file of SQLite's, several threads: the write lock is the whole database's."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.db.models.functions import Now
from django.http import HttpResponse, JsonResponse
from pytest_django import DjangoDbBlocker

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.concurrency.webhooks.receivers import HASTE
from tests.support.client import call, new_key, told
from tests.support.databases import Routes, alias
from tests.support.deliveries import deliver, stripe
from tests.support.threads import TIMEOUT, all_at_once, crew, start
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(databases=["file"], transaction=True)

BUSY_TIMEOUT = 5000
"""Milliseconds: what Python's driver sets."""


@pytest.fixture(
    autouse=True,
    scope="module",
    params=["IMMEDIATE", None],
    ids=["immediate", "default"],
)
def _file(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """A database under the alias ``file``, to which everything is sent."""
    options = {} if request.param is None else {"transaction_mode": request.param}
    database = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": tmp_path_factory.mktemp("sqlite") / "test.sqlite3",
        "OPTIONS": options,
    }
    with django_db_blocker.unblock(), alias("file", **database):
        call_command("migrate", database="file", run_syncdb=True, verbosity=0)
        with Routes.sending(read="file", write="file"):
            yield


def busy_timeout() -> int:
    with connections["file"].cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        milliseconds: int = cursor.fetchone()[0]
        return milliseconds


@contextmanager
def somebody_writing() -> Iterator[None]:
    """Another connection has the write lock."""
    name = connections["file"].settings_dict["NAME"]
    with closing(sqlite3.connect(str(name), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@idempotent
def order(request: IdempotentRequest) -> HttpResponse:
    Order.objects.create()
    return JsonResponse({"busy_timeout": busy_timeout()}, status=201)


def unavailable(request: IdempotentRequest) -> HttpResponse:
    return HttpResponse(status=503)


def leave_nothing(key: str) -> None: ...


def leave_an_expired_answer(key: str) -> None:
    call(order, key)
    IdempotencyRecord.objects.update(expires_at=Now() - timedelta(hours=1))
    Order.objects.all().delete()


def leave_a_released_key(key: str) -> None:
    call(idempotent(unavailable), key)


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param(leave_nothing, id="FR-079-new"),
        pytest.param(leave_an_expired_answer, id="FR-079-expired"),
        pytest.param(leave_a_released_key, id="released"),
    ],
)
@pytest.mark.parametrize("round_", range(5))
def test_copies_make_one_order(prepare: Callable[[str], None], round_: int) -> None:
    key = new_key()
    prepare(key)
    answers = all_at_once(8, lambda _: call(order, key))

    assert set(told(answers)) <= {"201", "201 replayed", "409 in-flight"}
    assert Order.objects.count() == 1


def test_different_keys_do_not_fail() -> None:
    answers = all_at_once(8, lambda _: [call(order, new_key()) for _ in range(5)])

    assert told(answer for each in answers for answer in each) == {"201": 40}


def test_copy_whose_wait_is_over_is_told_so() -> None:
    """Also a copy of another key: there is one lock for all."""
    entered, leave = threading.Event(), threading.Event()

    @idempotent(wait=timedelta(milliseconds=200))
    def slow(request: IdempotentRequest) -> HttpResponse:
        Order.objects.create()
        entered.set()
        assert leave.wait(TIMEOUT)
        return HttpResponse(status=201)

    key = new_key()
    with crew() as threads:
        first = start(threads, call, slow, key)
        assert entered.wait(TIMEOUT)
        copies = [start(threads, call, slow, each) for each in (key, new_key())]
        answers = [copy.result(TIMEOUT) for copy in copies]
        leave.set()

    assert told(answers) == {"409 in-flight": 2}
    assert first.result().word == "201"


def test_busy_timeout_is_the_projects_in_the_view() -> None:
    assert call(order, new_key()).json == {"busy_timeout": BUSY_TIMEOUT}


@pytest.mark.parametrize("view", [order, idempotent(unavailable)], ids=["kept", "503"])
def test_busy_timeout_is_put_back_after_first_call_and_repeat(view: Any) -> None:
    key = new_key()
    found = []
    for amount in (1, 1, 2):
        call(view, key, amount=amount)
        found.append(busy_timeout())

    assert found == [BUSY_TIMEOUT] * 3


def test_busy_timeout_is_put_back_after_a_wait_that_is_over() -> None:
    @idempotent(wait=timedelta(0))
    def view(request: IdempotentRequest) -> HttpResponse:
        return HttpResponse(status=201)

    with somebody_writing():
        word = call(view, new_key()).word

    assert (word, busy_timeout()) == ("409 in-flight", BUSY_TIMEOUT)


@pytest.mark.urls("tests.concurrency.webhooks.receivers")
@pytest.mark.parametrize("path", ["/hasty/", "/hasty-inbox/"])
def test_delivery_waits_no_longer_than_half_of_its_providers_patience(
    path: str,
) -> None:
    """However often it tries, while somebody else writes to the database."""
    asked: list[str] = []
    connections["file"].ensure_connection()
    connections["file"].connection.set_trace_callback(asked.append)
    with somebody_writing():
        answer = deliver(path, stripe())
    connections["file"].connection.set_trace_callback(None)

    granted = [int(sql.rpartition(" ")[2]) for sql in asked if "busy_timeout = " in sql]
    waits = [timedelta(milliseconds=each) for each in granted if each != BUSY_TIMEOUT]
    assert answer.status_code == 409
    # The last of a wait is rounded up.
    assert timedelta(0) < sum(waits, timedelta(0)) < 0.6 * HASTE


def test_claim_in_a_read_only_database_is_refused() -> None:
    with connections["file"].cursor() as cursor:
        cursor.execute("PRAGMA query_only = ON")
        word = call(order, new_key()).word
        cursor.execute("PRAGMA query_only = OFF")

    assert word == "503 store-unavailable"
