from __future__ import annotations

from importlib.util import find_spec

import pytest
from django.db import connection

from tests.integration.placements.commits import db

__all__ = ["db"]

# REST framework is an extra: without it there is nothing to test here.
collect_ignore_glob = [] if find_spec("rest_framework") else ["test_*.py"]


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways in which a project may run its views."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    return bool(request.param)
