"""The leased checkout: what its steps remember, and what they keep others from."""

import json
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from example_project.checkout.models import Cart, Payment
from tests.example.conftest import Customer, new_customer
from tests.example.providers import DECLINED_CARD, SILENT_CARD, RecordingProvider

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
]


@pytest.fixture
def ada(provider: RecordingProvider) -> Customer:
    return new_customer("ada", "leased")


def test_no_transaction_is_open_during_the_charge(
    ada: Customer, provider: RecordingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_transaction: list[bool] = []
    charge = provider.charge

    def look(**arguments: Any) -> str:
        in_transaction.append(connection.in_atomic_block)
        return charge(**arguments)

    monkeypatch.setattr(provider, "charge", look)

    assert ada.pay(ada.new_cart()).status_code == 201
    assert in_transaction == [False]


def test_cart_is_kept_for_who_pays(
    ada: Customer, provider: RecordingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Field report FR-094 without a lock that lasts: the second tab has another key."""
    cart, other_tab = ada.new_cart(), []
    charge = provider.charge

    def charge_while_a_copy_arrives(**arguments: Any) -> str:
        other_tab.append(ada.pay(cart))
        return charge(**arguments)

    monkeypatch.setattr(provider, "charge", charge_while_a_copy_arrives)

    assert ada.pay(cart).status_code == 201
    assert [code_of(answer) for answer in other_tab] == ["checkout-underway"]
    assert provider.asked.total() == 1


def test_cart_is_kept_from_the_atomic_checkout_too(ada: Customer) -> None:
    cart = ada.new_cart()
    ada.pay(cart, card=SILENT_CARD)

    answer = ada.http.post(
        "/checkout/",
        {"cart": cart.pk, "payment_method": "pm_good"},
        headers={"Idempotency-Key": "another"},
    )

    assert code_of(answer) == "checkout-underway"


def test_declined_card_gives_the_cart_back(ada: Customer) -> None:
    cart = ada.new_cart()

    assert ada.pay(cart, card=DECLINED_CARD).status_code == 402
    assert Cart.objects.get(pk=cart.pk).reserved_by is None


@pytest.mark.parametrize("applied", [True, False])
def test_provider_without_keys_is_not_asked_again(
    applied: bool,
    ada: Customer,
    provider: RecordingProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provider, "honours_keys", False)
    cart = ada.new_cart()
    assert ada.pay(cart, key="k", card=SILENT_CARD).status_code == 503

    answers = [ada.pay(cart, key="k", card=SILENT_CARD) for _ in range(2)]

    assert [code_of(answer) for answer in answers] == ["outcome-unknown"] * 2
    assert provider.asked.total() == 1
    outcome = '--applied="pi_seen"' if applied else "--not-applied"
    record = IdempotencyRecord.objects.get(state="held")
    seen = f"--seen={record.seen}"
    call_command(
        "settle_idempotency_key", str(record.pk), outcome, "--reason=list", seen
    )
    assert ada.pay(cart, key="k", card=SILENT_CARD).status_code == 201
    assert provider.asked.total() == (1 if applied else 2)
    assert (Payment.objects.get().provider_id == "pi_seen") is applied


def code_of(answer: Any) -> str:
    code: str = json.loads(answer.content)["code"]
    return code
