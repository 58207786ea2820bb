"""Which failures are kept, and what becomes of the view's writes."""

from __future__ import annotations

import pytest

from .customer import customer
from .facts import orders, states
from .placement import Placement


def applies_to(placement: Placement) -> bool:
    """What another REST framework view raises, its caller gets as an answer."""
    return not placement.name.startswith("api-view-calls-")


pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]


def test_returned_refusal_is_committed_and_replayed(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    first, again = (ada.post(placement.path, returns=402) for _ in range(2))

    assert (first.status_code, again.status_code) == (402, 402)
    assert again.content == first.content
    assert again.headers["Idempotency-Replayed"] == "true"
    assert (orders(), states()) == (1, ["kept"])


def test_returned_server_error_is_rolled_back_and_released(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    answers = [ada.post(placement.path, returns=503) for _ in range(2)]

    assert [each.status_code for each in answers] == [503, 503]
    assert not any("Idempotency-Replayed" in each.headers for each in answers)
    assert (orders(), states()) == (0, ["released"])


def test_raised_refusal_leaves_nothing(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    answers = [ada.post(placement.path, raises=404) for _ in range(2)]

    assert [each.status_code for each in answers] == [404, 404]
    assert not any("Idempotency-Replayed" in each.headers for each in answers)
    assert (orders(), states()) == (0, [])


def test_crash_is_rolled_back_and_noted(
    placement: Placement, atomic_requests: bool
) -> None:
    """In somebody else's transaction the note goes with it (trap T3)."""
    ada = customer()
    answers = [ada.post(placement.path, raises=500) for _ in range(2)]
    joined = placement.is_joining(atomic_requests=atomic_requests)

    assert [each.status_code for each in answers] == [500, 500]
    assert (orders(), states()) == (0, [] if joined else ["released"])
