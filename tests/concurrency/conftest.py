from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from django_idempotency import engine
from django_idempotency.gate import Gate
from tests.concurrency.shop import scene
from tests.concurrency.storm import TIMEOUT

Connect = Callable[..., None]


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.reset()


class OpenGate(Gate):
    """Lets everybody through."""

    @contextmanager
    def passed(self, *args: Any) -> Iterator[bool]:
        yield True


@pytest.fixture(autouse=True)
def _open_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in threads meet in the database, as those in different processes do."""
    monkeypatch.setattr(engine, "gate", OpenGate())


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
