"""What the naive checkout does while nobody hurries; the demo shows the rest."""

from __future__ import annotations

import pytest

from example_project.naive.models import NaiveOrder
from tests.example.conftest import Customer, new_customer
from tests.example.providers import DECLINED_CARD, RecordingProvider

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


@pytest.fixture
def ada(db: None, provider: RecordingProvider) -> Customer:
    return new_customer("ada", "naive")


def test_payment_makes_order_and_charge(
    ada: Customer, provider: RecordingProvider
) -> None:
    assert ada.pay(ada.new_cart()).status_code == 201
    assert (NaiveOrder.objects.count(), len(provider.charges)) == (1, 1)


def test_second_look_finds_the_order(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()
    ada.pay(cart)

    assert ada.pay(cart).status_code == 409
    assert len(provider.charges) == 1


def test_two_that_look_before_either_inserts_both_charge(
    ada: Customer, provider: RecordingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    cart = ada.new_cart()
    charge = provider.charge

    def charge_while_a_copy_arrives(**arguments: object) -> str:
        monkeypatch.undo()
        assert ada.pay(cart).status_code == 201
        return charge(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(provider, "charge", charge_while_a_copy_arrives)

    assert ada.pay(cart).status_code == 201
    assert (NaiveOrder.objects.count(), len(provider.charges)) == (2, 2)


def test_declined_card_and_empty_cart_are_refused(
    ada: Customer, provider: RecordingProvider
) -> None:
    assert ada.pay(ada.new_cart(), card=DECLINED_CARD).status_code == 402
    assert ada.pay(ada.new_cart(quantity=0)).status_code == 409
    assert ada.pay(ada.new_cart(), card="4242424242424242").status_code == 400
    assert not provider.charges


def test_second_look_finds_the_refund(
    ada: Customer, provider: RecordingProvider
) -> None:
    order = ada.order_in(ada.pay(ada.new_cart()))

    assert [ada.refund(order).status_code for _ in range(2)] == [201, 409]
    assert len(provider.refunds) == 1
