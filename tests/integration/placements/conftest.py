from __future__ import annotations

import pytest
from django.db import connection

from .commits import db
from .urls import PLACEMENTS

__all__ = ["db"]


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def atomic_requests(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Both ways in which a project may run its views."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    return bool(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "placement" in metafunc.fixturenames:
        wanted = getattr(metafunc.module, "applies_to", lambda placement: True)
        chosen = [each for each in PLACEMENTS if wanted(each)]
        metafunc.parametrize("placement", chosen, ids=[each.name for each in chosen])
