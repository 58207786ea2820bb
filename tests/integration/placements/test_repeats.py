"""A repeat gets the first answer, wherever the protection stands."""

from __future__ import annotations

import pytest

from django_idempotency.models import IdempotencyRecord

from .customer import customer
from .facts import orders, states
from .placement import Placement

pytestmark = [
    pytest.mark.urls("tests.integration.placements.urls"),
    pytest.mark.usefixtures("db"),
]


def test_first_call_does_the_work_and_keeps_the_answer(
    placement: Placement, atomic_requests: bool
) -> None:
    response = customer().post(placement.path)

    assert (response.status_code, orders(), states()) == (201, 1, ["kept"])
    assert "Idempotency-Replayed" not in response.headers


def test_repeat_gets_the_first_answer_and_does_nothing(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    first = ada.post(placement.path)
    again = ada.post(placement.path)

    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert orders() == 1
    assert IdempotencyRecord.objects.get().replays == 1


def test_other_payload_under_the_key_is_refused(
    placement: Placement, atomic_requests: bool
) -> None:
    ada = customer()
    first = ada.post(placement.path)
    other = ada.post(placement.path, amount=2)

    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    assert "Idempotency-Replayed" not in other.headers
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
