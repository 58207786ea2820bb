import pytest
from django.db import connection

from tests.integration.placements.commits import db

__all__ = ["db"]


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.fixture(autouse=True)
def one_api_may_be_served_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINJA_SKIP_REGISTRY", "yes")
