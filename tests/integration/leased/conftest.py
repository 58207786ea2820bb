from collections.abc import Iterator

import pytest
from django.db import connection

from tests.integration.leased.scene import scene
from tests.integration.placements.commits import db

__all__ = ["db"]


@pytest.fixture(autouse=True)
def _fresh_scene() -> Iterator[None]:
    scene.reset()
    yield
    # Tests of other folders use it as well.
    scene.reset()


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
