from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from django_idempotency.engine import atomic as engine
from django_idempotency.engine.gate import Gate
from tests.concurrency.servers import server, sessions_in_a_transaction
from tests.concurrency.shop import scene
from tests.concurrency.webhooks.receivers import scene as scene_of_webhooks
from tests.support.threads import TIMEOUT, until

AT_THE_SHOP = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.shop"),
]
"""The markers of most races."""

Connect = Callable[..., None]
Pair = tuple[str, str]


@pytest.fixture(autouse=True)
def _fresh_scene() -> Iterator[None]:
    scene.reset()
    scene_of_webhooks.reset()
    yield
    # Tests of other folders use it as well.
    scene.reset()
    scene_of_webhooks.reset()


class OpenGate(Gate):
    """Lets everybody through."""

    @contextmanager
    def passed(self, *args: Any) -> Iterator[bool]:
        yield True


@pytest.fixture(autouse=True)
def _open_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in threads meet in the database, as those in different processes do."""
    monkeypatch.setattr(engine, "gate", OpenGate())


@pytest.fixture(scope="session")
def _two_addresses(django_db_setup: None, django_db_blocker: Any) -> Iterator[Pair]:
    with django_db_blocker.unblock(), server() as one, server() as two:
        yield one.address, two.address


@pytest.fixture
def two_servers(transactional_db: None, _two_addresses: Pair) -> Iterator[Pair]:
    """The addresses of two processes that nobody kills or stops."""
    yield _two_addresses
    until(lambda: not sessions_in_a_transaction())


@pytest.fixture
def connect_with(
    monkeypatch: pytest.MonkeyPatch, transactional_db: None
) -> Iterator[Connect]:
    """Make every connection opened from now on with these ``OPTIONS``."""

    def connect(**options: Any) -> None:
        connection.close()
        monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)

    yield connect
    connection.close()


@pytest.fixture
def pool_of_five(connect_with: Connect) -> Iterator[None]:
    """Let Django take connections from psycopg's pool; it has five."""
    connect_with(pool={"min_size": 1, "max_size": 5, "timeout": TIMEOUT})
    yield
    connection.close()
    connection.close_pool()  # type: ignore[attr-defined]
