"""A repeat gets the first answer, wherever the protection stands, and a safe method none."""

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.support.ordering import is_replay, orders
from tests.support.records import states

from .conftest import KEY, customer
from .placement import Placement

pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]


def test_repeat_gets_the_first_answer_and_does_nothing(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    first = ada.post(placement.path)
    assert (first.status_code, orders(), states()) == (201, 1, ["kept"])
    again = ada.post(placement.path)

    assert (again.status_code, again.content) == (201, first.content)
    assert not is_replay(first)
    assert is_replay(again)
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert (orders(), IdempotencyRecord.objects.get().replays) == (1, 1)


def test_other_payload_under_the_key_is_refused(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    first = ada.post(placement.path)
    other = ada.post(placement.path, amount=2)

    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    assert not is_replay(other)
    assert (orders(), states()) == (1, ["kept"])
    assert ada.post(placement.path).content == first.content


def test_missing_key_is_refused(placement: Placement) -> None:
    response = customer().post(placement.path, None)

    assert (response.status_code, response.json()["code"]) == (400, "key-missing")
    assert (orders(), states()) == (0, [])


def test_other_key_does_the_work_again(placement: Placement) -> None:
    ada = customer()
    ada.post(placement.path, "order-1")
    ada.post(placement.path, "order-2")

    assert (orders(), states()) == (2, ["kept", "kept"])


def test_safe_method_is_neither_refused_nor_recorded_nor_replayed(
    placement: Placement, atomic_requests: bool
) -> None:
    """FR-060, FR-061."""
    client = customer().client
    for method in ("GET", "HEAD", "OPTIONS"):
        for headers in ({}, {"Idempotency-Key": KEY}, {"Idempotency-Key": KEY}):
            response = client.generic(method, placement.path, headers=headers)
            assert not is_replay(response)
            assert response.status_code in {200, 201, 405}

    assert states() == []
