"""Copies in one process wait before they touch the database, and hold nothing."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction

from django_idempotency.engine import atomic as engine
from django_idempotency.engine.gate import Gate
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.rows import place_of
from tests.concurrency.conftest import AT_THE_SHOP
from tests.concurrency.shop import held, inner, scene
from tests.support.client import call, new_key, post, told
from tests.support.threads import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    crew,
    gate_closed,
    start,
    until,
    until_waiting,
    waiting,
)
from tests.testapp.models import Order

pytestmark = AT_THE_SHOP


@pytest.fixture(autouse=True)
def _closed_gate(_open_gate: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    gate = Gate()
    monkeypatch.setattr(engine, "gate", gate)
    yield
    assert inside() == 0


def inside() -> int:
    """Who runs or waits, of all keys."""
    return sum(passage.users for passage in engine.gate._passages.values())


@pytest.mark.usefixtures("pool_of_five")
def test_copies_leave_the_pool_to_others() -> None:
    """FR-082: 50 copies wait on one slow key, and a pool of 5 serves ten others."""
    key = new_key()
    slow = threading.Event()
    scene.pauses.append(slow)
    with crew() as threads:
        first = start(threads, post, "/protected/", key)
        until(lambda: scene.calls == 1)
        copies = [start(threads, post, "/protected/", key) for _ in range(50)]
        until(lambda: inside() == 51)
        others = [start(threads, post, "/protected/", new_key()) for _ in range(10)]
        words = told(each.result(TIMEOUT) for each in others)
        in_the_database = waiting(AT_A_CLAIM)
        slow.set()
        answers = told(each.result(TIMEOUT) for each in copies)

    assert words == {"201": 10}
    assert in_the_database == 0
    assert (first.result().word, answers) == ("201", {"201 replayed": 50})
    assert Order.objects.count() == 11


def test_copy_takes_over_when_the_first_one_fails() -> None:
    key = new_key()
    failing = threading.Event()
    scene.pauses.append(failing)
    scene.failures.append(ValueError())
    with crew() as threads:
        first = start(threads, post, "/protected/", key)
        until(lambda: scene.calls == 1)
        copies = [start(threads, post, "/protected/", key) for _ in range(3)]
        until(lambda: inside() == 4)
        failing.set()
        answers = told(each.result(TIMEOUT) for each in copies)

    assert first.result().status == 500
    assert answers == {"201": 1, "201 replayed": 2}
    assert Order.objects.count() == 1


@pytest.mark.parametrize("path", ["/hasty/", "/impatient/"])
def test_copy_whose_wait_is_over_is_told_so(path: str) -> None:
    key = new_key()
    slow = threading.Event()
    scene.pauses.append(slow)
    with crew() as threads:
        first = start(threads, post, path, key)
        until(lambda: scene.calls == 1)
        copy = start(threads, post, path, key).result(TIMEOUT)
        slow.set()

    assert (copy.word, first.result().word) == ("409 in-flight", "201")


def test_answer_that_is_committed_is_given_though_the_first_is_still_inside() -> None:
    """A callback after its commit takes long; a copy that may not wait gets it."""
    key = new_key()
    post("/impatient/", key)
    place = place_of(IdempotencyRecord.objects.get().pk, connection)
    with engine.gate.passed(place, timedelta(0), lambda: None), crew() as threads:
        copy = start(threads, post, "/impatient/", key).result(TIMEOUT)

    assert copy.word == "201 replayed"


def test_copy_in_a_transaction_of_its_own_waits_in_the_database() -> None:
    """There a deadlock with what that has locked would be noticed."""
    key = new_key()

    def in_a_transaction() -> str:
        with transaction.atomic():
            return call(inner, key).word

    with gate_closed() as gate, crew() as threads:
        first = start(threads, call, held, key)
        until_waiting(1, AT_THE_GATE)
        copy = start(threads, in_a_transaction)
        until_waiting(1, AT_A_CLAIM)
        gate.open()
        words = (first.result(TIMEOUT).word, copy.result(TIMEOUT))

    assert words == ("201", "201 replayed")
