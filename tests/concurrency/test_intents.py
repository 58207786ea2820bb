"""The same under several keys at once: one works, whatever becomes of it.

As for copies under one key, the database decides, by an insert that it can refuse.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.backends.postgresql.psycopg_any import IsolationLevel
from django.http import HttpResponse, JsonResponse
from django.test import Client
from django.urls import path

from django_idempotency.core import intents as rule
from django_idempotency.decorators import idempotent
from django_idempotency.engine.intents import Precedence
from django_idempotency.models import IdempotencyRecord, OperationIntent
from tests.concurrency.conftest import Connect
from tests.support.ordering import forgiving_client, orders, send, word
from tests.support.threads import TIMEOUT, all_at_once, crew, start, until
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

OPTIONS: dict[str, Any] = {
    "intent_window": timedelta(seconds=30),
    "wait": timedelta(seconds=20),
}
REFUSED = "409 possible-duplicate"
CLICKS = 6


class Scene:
    """What happens in the next runs, one after the other."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.runs = 0
        self.statuses: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def next_status(self) -> int:
        with self.lock:
            self.runs += 1
            status = self.statuses.pop(0) if self.statuses else 201
        assert self.go_on.wait(TIMEOUT)
        return status


scene = Scene()


@pytest.fixture(autouse=True)
def quiet_scene() -> Iterator[None]:
    scene.reset()
    yield
    scene.go_on.set()


def place(request: Any) -> HttpResponse:
    status = scene.next_status()
    if status == 500:
        raise TimeoutError
    if status == 201:
        request.idempotency.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({}, status=status)


urlpatterns = [
    path("atomic/", idempotent(**OPTIONS)(place)),
    path("leased/", idempotent(lease=timedelta(minutes=1), **OPTIONS)(place)),
]

each_shape = pytest.mark.parametrize("url", ["/atomic/", "/leased/"])


def click(url: str, number: int, client: Client, confirms: str = "") -> str:
    return word(send(client, url, key=f"K{number}", Idempotency_Confirm=confirms))


def clicks(url: str, **more: Any) -> Counter[str]:
    clients = [forgiving_client() for _ in range(CLICKS)]
    return Counter(
        all_at_once(CLICKS, lambda number: click(url, number, clients[number], **more))
    )


@each_shape
@pytest.mark.parametrize("before", [[], [500], [500, 500], [402], [402, 500, 402]])
def test_of_many_clicks_at_once_one_works(url: str, before: list[int]) -> None:
    """The others are told of it; if it comes to nothing, the next one works."""
    scene.statuses = list(before)
    told = clicks(url)
    left = CLICKS - 1 - len(before)
    assert told == Counter(map(str, [*before, 201])) + Counter({REFUSED: left})
    assert (orders(), scene.runs) == (1, len(before) + 1)


@each_shape
def test_of_many_clicks_after_the_window_one_works(url: str) -> None:
    click(url, 100, forgiving_client())
    hour = timedelta(hours=1)
    row = IdempotencyRecord.objects.get()
    assert row.completed_at is not None
    IdempotencyRecord.objects.update(completed_at=row.completed_at - hour)
    assert clicks(url) == {"201": 1, REFUSED: CLICKS - 1}
    assert orders() == 2


@each_shape
def test_of_many_confirmations_of_one_first_one_works(url: str) -> None:
    first = send(forgiving_client(), url, key="K100")
    reference = first["Idempotency-Reference"]
    assert clicks(url, confirms=reference) == {"201": 1, REFUSED: CLICKS - 1}
    assert orders() == 2


@each_shape
@pytest.mark.parametrize(("status", "then"), [(201, REFUSED), (500, "201")])
def test_second_click_waits_for_the_first_and_others_do_not(
    url: str, status: int, then: str
) -> None:
    scene.statuses = [status]
    scene.go_on.clear()
    ann, again, bob = (
        forgiving_client(username=each) for each in ("ann", "ann", "bob")
    )
    with crew() as threads:
        first = start(threads, click, url, 1, ann)
        until(lambda: scene.runs == 1)
        second = start(threads, click, url, 2, again)
        other = start(threads, click, url, 3, bob)
        if connection.vendor != "sqlite":  # which has one lock for all keys
            until(lambda: scene.runs == 2)  # bob's
        assert not second.done()
        scene.go_on.set()
        assert first.result(TIMEOUT) == str(status)
        assert (second.result(TIMEOUT), other.result(TIMEOUT)) == (then, "201")
    assert orders() == 2


def unguarded(*args: Any, **more: Any) -> None: ...


@each_shape
@pytest.mark.parametrize(
    "take_away",
    [
        lambda patch: patch.setattr(Precedence, "claim", unguarded),
        lambda patch: patch.setattr(rule, "_is_in_the_way", unguarded),
    ],
    ids=["claim", "rule"],
)
def test_without_a_guard_the_damage_shows(
    url: str,
    take_away: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take_away(monkeypatch)
    clicks(url)
    assert orders() > 1


@pytest.mark.postgresql
@pytest.mark.direct
@each_shape
@pytest.mark.parametrize(
    "level", [IsolationLevel.REPEATABLE_READ, IsolationLevel.SERIALIZABLE]
)
def test_of_many_clicks_one_works_whatever_the_isolation(
    url: str, level: IsolationLevel, connect_with: Connect
) -> None:
    connect_with(isolation_level=level)
    told = clicks(url)
    assert (told["201"], orders()) == (1, 1)
    assert set(told) == {"201", REFUSED}


def test_refused_click_leaves_nothing() -> None:
    clicks("/atomic/")
    assert IdempotencyRecord.objects.count() == OperationIntent.objects.count() == 1
