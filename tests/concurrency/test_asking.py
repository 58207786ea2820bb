"""Whoever asks while copies run is never told that nothing happens.

The promise: "unknown" and "unfinished" are told only if at a moment since the question
nobody held the key. A claim that was there before the question, and commits, is running
or done to everybody who asks.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.engine import asking
from tests.concurrency.conftest import Connect
from tests.support.cases import cases
from tests.support.client import Answer, new_key, post
from tests.support.records import change, expire, states
from tests.support.threads import TIMEOUT, all_at_once, crew, start, until
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

COPIES, ASKERS = 16, 4


class Stage:
    def __init__(self) -> None:
        self.begun: deque[tuple[float, bool]] = deque()
        """When a view was entered, and whether it succeeds."""
        self.failures: deque[str] = deque()
        self.go_on = threading.Event()
        self.go_on.set()

    def play(self) -> HttpResponse:
        failure = self.failures.popleft() if self.failures else ""
        self.begun.append((time.monotonic(), not failure))
        self.go_on.wait(TIMEOUT)
        Order.objects.create()
        if failure == "raised":
            raise ValueError
        return HttpResponse(status=503 if failure else 201)


stage = Stage()


@pytest.fixture(autouse=True)
def _fresh_stage(settings: Any) -> None:
    settings.MIDDLEWARE = ["django_idempotency.middleware.OutcomeMiddleware"]
    stage.__init__()  # type: ignore[misc]


@idempotent
def atomic(request: HttpRequest) -> HttpResponse:
    return stage.play()


@idempotent(lease=timedelta(minutes=1))
def leased(request: HttpRequest) -> HttpResponse:
    return stage.play()


urlpatterns = [path("atomic/", atomic), path("leased/", leased)]


def ask(url: str, key: str) -> str:
    headers = {"Idempotency-Key": key, "Idempotency-Ask": "POST"}
    answer = Client(raise_request_exception=False).get(url, headers=headers)
    return answer.headers.get("Idempotency-State", "")


def nothing(url: str, key: str) -> None: ...


def fail(url: str, key: str) -> None:
    stage.failures.append("returned")
    post(url, key)
    assert states() == ["released"]
    stage.begun.clear()
    if url == "/leased/":
        Order.objects.all().delete()


def expired(url: str, key: str) -> None:
    post(url, key)
    expire()
    stage.begun.clear()
    Order.objects.all().delete()


BEFORE = {"no row": nothing, "a released row": fail, "an expired row": expired}
each_shape = pytest.mark.parametrize("url", ["/atomic/", "/leased/"])
each_before = cases("before", BEFORE)


class Leader:
    """An attempt that is in its view."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key

    def __enter__(self) -> None:
        stage.go_on.clear()
        self._crew = crew()
        self._answer: Future[Answer] = start(
            self._crew.__enter__(), post, self.url, self.key
        )
        until(lambda: len(stage.begun) == 1)

    def __exit__(self, *raised: Any) -> None:
        stage.go_on.set()
        assert self._answer.result(TIMEOUT).status == 201
        self._crew.__exit__(None, None, None)


@each_before
@each_shape
def test_operation_that_runs_is_never_unknown(
    url: str, before: Callable[[str, str], None]
) -> None:
    key = new_key()
    before(url, key)

    with Leader(url, key):
        other, told = ask(url, new_key()), ask(url, key)

    # SQLite has one lock, and doesn't know for which key it is held.
    is_busy = connection.vendor == "sqlite" and url == "/atomic/"
    assert told == ("" if is_busy else "running")
    assert other == ("" if is_busy else "unknown")
    assert ask(url, key) == "done"
    assert Order.objects.count() == 1


def test_question_takes_nothing_from_a_worker_whose_lease_is_over() -> None:
    """It counts as gone, and finishes if it comes back before a retry."""
    key = new_key()

    with Leader("/leased/", key):
        change(lease_expires_at=Now() - timedelta(minutes=1))
        told = ask("/leased/", key)

    assert (told, ask("/leased/", key)) == ("unfinished", "done")
    assert post("/leased/", key).word == "201 replayed"
    assert Order.objects.count() == 1


@pytest.mark.postgresql
@pytest.mark.parametrize(
    "level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]
)
@each_before
def test_operation_that_runs_is_never_unknown_in_any_isolation(
    before: Callable[[str, str], None], level: int, connect_with: Connect
) -> None:
    connect_with(isolation_level=level)
    test_operation_that_runs_is_never_unknown("/atomic/", before)


@each_before
def test_look_alone_would_tell_that_nothing_happens(
    before: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: without the claim, what isn't committed isn't seen."""

    def looked(operation: Any) -> Any:
        row = asking._AskedRow(operation)
        row.look()
        return row._standing

    monkeypatch.setattr("django_idempotency.http.asking.ask", looked)
    key = new_key()
    before("/atomic/", key)

    with Leader("/atomic/", key):
        told = ask("/atomic/", key)

    assert told in ("unknown", "unfinished")


@pytest.mark.parametrize("failures", [[], ["raised"], ["returned", "raised"]], ids=len)
@each_before
@each_shape
def test_asked_in_a_storm(
    url: str, before: Callable[[str, str], None], failures: list[str]
) -> None:
    key = new_key()
    before(url, key)
    stage.failures.extend(failures)
    told: deque[tuple[float, float, str]] = deque()

    def act(number: int) -> str | None:
        if number >= ASKERS:
            return post(url, key).word
        for _ in range(12):
            asked = time.monotonic()
            state = ask(url, key)
            told.append((asked, time.monotonic(), state))
        return None

    with override_settings(IDEMPOTENCY_COUNT_REPLAYS=False):
        words = all_at_once(COPIES + ASKERS, act)
        post(url, key)

    succeeded = min(begun for begun, succeeds in stage.begun if succeeds)
    done = min((at for _, at, state in told if state == "done"), default=float("inf"))
    for asked, _, state in told:
        if state in ("unknown", "unfinished"):
            assert asked < succeeded
        assert asked <= done or state in ("done", ""), told
    assert sum(succeeds for _, succeeds in stage.begun) == 1
    assert Order.objects.count() == 1 or url == "/leased/"
    if not failures:  # who only asks keeps nobody from it
        assert {*words} == {None, "201", "201 replayed"}
    assert ask(url, key) == "done"
