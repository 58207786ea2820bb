"""GET, HEAD and OPTIONS pass untouched, with a key or without (FR-060, FR-061)."""

from __future__ import annotations

import pytest

from .customer import KEY, customer
from .facts import states
from .placement import Placement

pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_safe_method_is_neither_refused_nor_recorded_nor_replayed(
    placement: Placement, atomic_requests: bool, method: str
) -> None:
    ada = customer()
    statuses = set()
    for headers in ({}, {"Idempotency-Key": KEY}, {"Idempotency-Key": KEY}):
        response = ada.client.generic(method, placement.path, headers=headers)
        assert "Idempotency-Replayed" not in response.headers
        statuses.add(response.status_code)

    assert states() == []
    assert statuses <= {200, 201, 405}
