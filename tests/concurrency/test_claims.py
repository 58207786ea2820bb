"""Of many copies that arrive together one runs, and the others get its answer."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.db.models.functions import Now
from django.test import Client

from django_idempotency.models import IdempotencyRecord
from tests.concurrency.answers import Answer, new_key, post, told
from tests.concurrency.servers import environment
from tests.concurrency.shop import scene
from tests.concurrency.storm import (
    AT_A_CLAIM,
    AT_THE_GATE,
    all_at_once,
    crew,
    gate_closed,
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


def storm(
    path: str, key: str, *, copies: int, held: int, at: tuple[str, ...]
) -> list[Answer]:
    """Send copies that all meet the first one while it is inside the view."""
    with gate_closed() as gate, crew() as threads:
        futures = [start(threads, post, path, key) for _ in range(copies)]
        until_waiting(held, at)
        gate.open()
        return [future.result() for future in futures]


def test_twenty_copies_make_one_order() -> None:  # FR-001
    key = new_key()

    answers = storm("/protected/", key, copies=20, held=19, at=AT_A_CLAIM)

    assert told(answers) == {"201": 1, "201 replayed": 19}
    assert Order.objects.count() == 1


def test_twenty_copies_enter_the_view_once() -> None:  # FR-001
    storm("/protected/", new_key(), copies=20, held=19, at=AT_A_CLAIM)

    assert scene.calls == 1


def test_the_same_storm_without_protection_makes_twenty_orders() -> None:
    answers = storm("/unprotected/", new_key(), copies=20, held=20, at=AT_THE_GATE)

    assert told(answers) == {"201": 20}
    assert Order.objects.count() == 20


@pytest.mark.parametrize("round_", range(10))
def test_copies_that_nobody_holds_back_make_one_order(round_: int) -> None:  # FR-107
    key = new_key()

    answers = all_at_once(8, lambda _: post("/protected/", key))

    assert told(answers) == {"201": 1, "201 replayed": 7}
    assert Order.objects.count() == 1


def test_copies_of_a_signed_in_user_make_one_order() -> None:
    user = User.objects.create_user("alice")

    def send(number: int) -> Answer:
        client = Client()
        client.force_login(user)
        return post("/protected/", "k", client=client)

    assert told(all_at_once(8, send)) == {"201": 1, "201 replayed": 7}
    assert Order.objects.count() == 1


def test_copies_get_the_bytes_of_the_first_answer() -> None:
    answers = storm("/protected/", new_key(), copies=5, held=4, at=AT_A_CLAIM)

    assert len({answer.body for answer in answers}) == 1


def test_different_keys_do_not_wait_for_each_other() -> None:
    with gate_closed() as gate, crew() as threads:
        futures = [start(threads, post, "/protected/", new_key()) for _ in range(8)]
        until_waiting(8, AT_THE_GATE)
        gate.open()
        answers = [future.result() for future in futures]

    assert told(answers) == {"201": 8}


def test_claim_that_a_later_copy_won_is_lost_in_the_database() -> None:  # FR-002
    """Both have found nothing before either has written: the index decides."""
    key = new_key()
    with gate_closed() as gate, crew() as threads:
        first = start(threads, post, "/protected/", key)
        until_waiting(1, AT_THE_GATE)
        second = start(threads, post, "/protected/", key)
        until_waiting(1, AT_A_CLAIM)
        gate.open()

    assert [first.result().word, second.result().word] == ["201", "201 replayed"]
    assert Order.objects.count() == 1


def test_database_refuses_the_record_that_another_process_has_written() -> None:
    # FR-003: computed apart, under other hash seeds, inserted past the engine's checks.
    writers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.concurrency.write_records"],
            cwd=Path(__file__).parents[2],
            env=environment(PYTHONHASHSEED=seed),
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    said = [writer.communicate(timeout=60)[0].split() for writer in writers]

    assert [sorted(words) for words in zip(*said, strict=True)] == [
        ["inserted", "refused"],
        ["inserted", "refused"],
    ]


def test_three_saves_with_pauses_are_one_execution() -> None:  # FR-011
    answers = storm("/in-three-steps/", new_key(), copies=2, held=1, at=AT_A_CLAIM)

    assert told(answers) == {"201": 1, "201 replayed": 1}
    assert Order.objects.count() == 3


def expire(key: str) -> None:
    IdempotencyRecord.objects.filter(key=key).update(
        expires_at=Now() - timedelta(seconds=1)
    )


def test_of_ten_copies_of_an_expired_key_one_runs() -> None:  # FR-070
    key = new_key()
    post("/protected/", key)
    expire(key)

    answers = storm("/protected/", key, copies=10, held=9, at=AT_A_CLAIM)

    assert told(answers) == {"201": 1, "201 replayed": 9}
    assert Order.objects.count() == 2


def test_ten_copies_of_a_key_that_is_about_to_expire_are_replayed() -> None:  # FR-070
    key = new_key()
    post("/protected/", key)
    IdempotencyRecord.objects.update(expires_at=Now() + timedelta(seconds=60))

    answers = all_at_once(10, lambda _: post("/protected/", key))

    assert told(answers) == {"201 replayed": 10}


def test_new_life_of_an_expired_key_has_a_fingerprint_of_its_own() -> None:  # FR-070
    key = new_key()
    post("/protected/", key, amount=1)
    expire(key)

    assert post("/protected/", key, amount=2).word == "201"
    assert post("/protected/", key, amount=1).word == "422 key-reused"


def test_of_ten_copies_of_a_released_key_one_runs() -> None:
    key = new_key()
    scene.failures.append(ValueError())
    assert post("/protected/", key).status == 500

    answers = storm("/protected/", key, copies=10, held=9, at=AT_A_CLAIM)

    assert told(answers) == {"201": 1, "201 replayed": 9}
    assert Order.objects.count() == 1


def test_renewed_record_counts_its_attempts() -> None:
    key = new_key()
    scene.failures.append(ValueError())
    post("/protected/", key)
    storm("/protected/", key, copies=4, held=3, at=AT_A_CLAIM)

    assert IdempotencyRecord.objects.get(key=key).attempts == 2
