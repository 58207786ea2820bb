"""Forgetting, erasing and releasing, while clients repeat: nothing is done twice."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.forgetting import erase, forget_answer, release_stuck
from tests.concurrency import shop
from tests.concurrency.shop import scene
from tests.support.cases import cases
from tests.support.client import Answer, new_key, post
from tests.support.records import change, expire, record
from tests.support.threads import TIMEOUT, all_at_once, crew, start, until
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
]

urlpatterns = [*shop.urlpatterns, path("leased/", csrf_exempt(shop.leased))]

COPIES = 6
ROUNDS = 4
WHO = {"by": "bob", "reason": "a letter"}

DONE = {"201", "201 replayed", "409 answer-unavailable"}
BUSY = "409 in-flight"


@pytest.fixture
def ann() -> User:
    return User.objects.create(username="ann")


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def forget(user: User) -> None:
    forget_answer(record(), **WHO)


def erase_person(user: User) -> None:
    erasure = erase(f"auth.User:{user.pk}", **WHO)
    if erasure.left:
        raise ValueError(erasure.left[0][1])


ACTS = pytest.mark.parametrize("act", [forget, erase_person])


@ACTS
@pytest.mark.parametrize("address", ["/protected/", "/leased/"])
def test_repeats_during_it_run_nothing_and_get_the_answer_or_the_refusal(
    ann: User, act: Callable[[User], None], address: str
) -> None:
    key = new_key()
    clients = [client_of(ann) for _ in range(COPIES)]
    assert post(address, key, client=clients[0]).status == 201

    def repeat_or_act(number: int) -> list[str]:
        if number == COPIES:
            act(ann)
            return []
        return [post(address, key, client=clients[number]).word for _ in range(ROUNDS)]

    words = all_at_once(COPIES + 1, repeat_or_act)

    assert {word for each in words for word in each} <= DONE
    # Whoever has been refused is never shown the answer again.
    for each in words:
        assert each == sorted(each)
    assert post(address, key, client=clients[0]).word == "409 answer-unavailable"
    assert Order.objects.count() == 1


@ACTS
@pytest.mark.parametrize("address", ["/protected/", "/leased/"])
def test_operation_that_begins_anew_meanwhile_runs_once_or_not_at_all(
    ann: User, act: Callable[[User], None], address: str
) -> None:
    """Its retention is over, so that each repeat would be a new operation."""
    clients = [client_of(ann) for _ in range(COPIES)]
    for _ in range(ROUNDS):
        key = new_key()
        post(address, key, client=clients[0])
        expire()
        before = Order.objects.count()

        def repeat_or_act(number: int, key: str = key) -> str:
            if number < COPIES:
                return post(address, key, client=clients[number]).word
            try:
                act(ann)
            except ValueError as error:
                return str(error)
            return "done"

        words = all_at_once(COPIES + 1, repeat_or_act)

        assert Order.objects.count() - before <= 1, words
        assert set(words[:-1]) <= DONE | {BUSY}, words
        IdempotencyRecord.objects.all().delete()


@ACTS
def test_operation_that_runs_anew_is_left_and_that_is_told(
    ann: User, act: Callable[[User], None]
) -> None:
    key, client = new_key(), client_of(ann)
    post("/protected/", key, client=client)
    expire()
    pause = threading.Event()
    scene.pauses.append(pause)

    with crew() as threads:
        running = start(threads, post, "/protected/", key, client=client)
        until(lambda: scene.calls == 2)
        with pytest.raises(ValueError, match="running the operation at this moment"):
            act(ann)
        pause.set()
        answer: Answer = running.result(TIMEOUT)

    assert answer.word == "201"
    assert Order.objects.count() == 2
    assert post("/protected/", key, client=client).word == "201 replayed"


@cases(
    "columns",
    {
        "lost": {"lease_expires_at": None},
        "crashed": {"lease_expires_at": Now()},
    },
)
def test_stuck_key_is_released_while_clients_repeat(
    ann: User, columns: dict[str, Any]
) -> None:
    clients = [client_of(ann) for _ in range(COPIES)]
    for _ in range(ROUNDS):
        key = new_key()
        post("/leased/", key, client=clients[0])
        Order.objects.all().delete()
        change(
            state="in_flight",
            response_status=None,
            response_headers=None,
            effects={},
            **columns,
        )
        stuck = record()

        def repeat_or_release(number: int, key: str = key, stuck: Any = stuck) -> str:
            if number < COPIES:
                return post("/leased/", key, client=clients[number]).word
            try:
                release_stuck(stuck, **WHO)
            except ValueError as error:
                return str(error)
            return "done"

        words = all_at_once(COPIES + 1, repeat_or_release)
        assert post("/leased/", key, client=clients[0]).status in (201, 409)

        # A repeat that came first may have noted that it waits for a person.
        assert Order.objects.count() <= 1, words
        assert Order.objects.count() == 1 or record().state in ("held", "released")
        IdempotencyRecord.objects.all().delete()
