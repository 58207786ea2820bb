from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from tests.concurrency.shop import scene

Connect = Callable[..., None]


@pytest.fixture(autouse=True)
def _fresh_scene() -> None:
    scene.reset()


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
