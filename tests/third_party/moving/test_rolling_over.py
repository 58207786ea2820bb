"""A rolling deploy: processes with an old package and with ours, at the same keys.

Both are real servers on one PostgreSQL. Clients send copies to both, while the new one
comes up and the old one goes down.
"""

import http.client
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from tests.support.client import Answer, new_key, post_to
from tests.support.programs import environment
from tests.support.servers.gunicorn import gunicorn
from tests.support.threads import TIMEOUT
from tests.testapp.models import Cart

from .shop import PAY

MODULES = {
    "drf-idempotency": "drf_idempotency",  # wants a Django before 5.3
    "drf-idempotencykey": "drf_idempotencykey",
    "djangorestframework-idempotency-key": "rest_framework_idempotency_key",
    "idemkit": "idemkit",
}
PACKAGES = [name for name, module in MODULES.items() if find_spec(module)]
COPIES = 4

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_tables"),
]


@pytest.fixture
def _tables(transactional_db: None) -> Iterator[None]:
    from idemkit.backends.postgres import DEFAULT_TABLE, _schema_sql

    User.objects.create(username="ann")
    with connection.cursor() as cursor:
        cursor.execute(_schema_sql(DEFAULT_TABLE))
    yield
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {DEFAULT_TABLE}")


@contextmanager
def served(side: str, package: str, **more: str) -> Iterator[str]:
    variables = environment(
        DJANGO_SETTINGS_MODULE="tests.third_party.moving.settings",
        MOVING_FROM=package,
        MOVING_SIDE=side,
        **more,
    )
    with gunicorn(workers=1, threads=12, **variables) as address:
        yield address


def answered(addresses: list[str], key: str) -> Answer:
    """Send copies to each server in turn, as clients do, until one is answered."""
    end = time.monotonic() + TIMEOUT
    servers = random.sample(addresses, len(addresses))
    while True:
        server = servers[0]
        try:
            answer = post_to(server, f"/{PAY}", key)
        except (OSError, http.client.HTTPException):  # it is going down
            servers = servers[1:] or servers
        else:
            if answer.status < 300:
                return answer
            assert answer.status in (409, 502, 503), (answer.status, answer.body)
            servers = [*servers[1:], server]
        assert time.monotonic() < end, "no answer"
        time.sleep(0.05)


def paid(answers: list[Answer]) -> set[int]:
    return {answer.json["paid"] for answer in answers}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_key_is_run_twice_and_every_client_is_answered(package: str) -> None:
    before, during, last = ([new_key() for _ in range(8)] for _ in range(3))
    got: dict[str, list[Answer]] = {}

    def send(threads: Any, keys: list[str], addresses: list[str]) -> None:
        copies = [key for key in keys for _ in range(COPIES)]
        random.shuffle(copies)
        for key in copies:
            sent.append((key, threads.submit(answered, addresses, key)))

    sent: list[tuple[str, Any]] = []
    with ExitStack() as new_ones, ThreadPoolExecutor(24) as threads:
        with served("old", package) as old:
            firsts = {key: answered([old], key) for key in before}
            new = new_ones.enter_context(served("new", package))
            send(threads, during, [old, new])
            send(threads, before, [old, new])
            for key, each in sent:
                got.setdefault(key, []).append(each.result(TIMEOUT))
            sent.clear()
            send(threads, last, [old, new])
        # By now the old one is gone, and some of its clients ask the new one.
        for key, each in sent:
            got.setdefault(key, []).append(each.result(TIMEOUT))
        afterwards = {key: answered([new], key) for key in [*before, *during, *last]}

    runs = Counter(Cart.objects.values_list("name", flat=True))
    assert runs == Counter([*before, *during, *last])
    for key, answers in got.items():
        assert paid(answers) == paid([afterwards[key]])
    assert {each.word for each in afterwards.values()} == {"201 replayed"}
    assert all(afterwards[key].json == firsts[key].json for key in before)


def test_without_the_old_store_keys_are_run_twice() -> None:
    """The negative control: what is counted above is there to be counted."""
    package, keys = PACKAGES[0], [new_key() for _ in range(8)]
    with served("old", package) as old, served("new", package, MOVING_BLIND="1") as new:
        for key in keys:
            answered([old], key)
            answered([new], key)

    assert Cart.objects.count() == 2 * len(keys)


def test_pickled_answers_are_not_opened_but_by_the_project() -> None:
    package, keys = "django-idempotency-key", [new_key() for _ in range(3)]
    with served("old", package) as old:
        for key in keys:
            answered([old], key)
    words = {}
    for reader in ("", "1"):
        with served("new", package, MOVING_READER=reader) as new:
            sent = [*keys, new_key()]
            words[reader] = [post_to(new, f"/{PAY}", key).word for key in sent]

    assert words == {
        "": [*["409 answer-unavailable"] * 3, "201"],
        "1": [*["201 replayed"] * 3, "201"],
    }
    assert Cart.objects.count() == len(keys) + 2
