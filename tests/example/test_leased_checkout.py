"""The leased checkout: what its steps remember, and what they keep others from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from example_project.checkout import ordering_in_steps
from example_project.checkout.models import Cart, Order, Payment, Refund
from tests.example.conftest import Customer, new_customer
from tests.example.providers import DECLINED_CARD, SILENT_CARD, RecordingProvider

if TYPE_CHECKING:
    from django.core.mail import EmailMessage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
]


@pytest.fixture
def ada(provider: RecordingProvider) -> Customer:
    return new_customer("ada", "leased")


class Died(BaseException):
    """What a test dies of in place of kill -9; it frees the key, as SIGTERM does."""


@contextmanager
def dying_in(function: str) -> Iterator[None]:
    """Run what is inside to its death in this function of the shop's."""

    def die(*args: Any, **kwargs: Any) -> None:
        raise Died

    with patch.object(ordering_in_steps, function, die), pytest.raises(Died):
        yield


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


@pytest.mark.parametrize("step", ["record_order", "send_after_commit"])
def test_retry_goes_on_after_the_last_step(
    step: str,
    ada: Customer,
    provider: RecordingProvider,
    mailbox: list[EmailMessage],
) -> None:
    cart = ada.new_cart()
    with dying_in(step):
        ada.pay(cart, key="k")
    # What has happened since must not change what the retry does.
    cart.items.update(quantity=99)

    assert ada.pay(cart, key="k").status_code == 201
    assert provider.asked.total() == 1
    assert Order.objects.get().amount_minor == 2500
    assert len(mailbox) == 1


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
    call_command("settle_idempotency_key", str(record.pk), outcome, "--reason=list")
    assert ada.pay(cart, key="k", card=SILENT_CARD).status_code == 201
    assert provider.asked.total() == (1 if applied else 2)
    assert (Payment.objects.get().provider_id == "pi_seen") is applied


def test_refund_is_resumed_after_it_was_made(
    ada: Customer, provider: RecordingProvider
) -> None:
    order = ada.order_in(ada.pay(ada.new_cart()))
    asked = provider.asked.total()
    with dying_in("record_refund"):
        ada.refund(order, key="k")

    assert code_of(ada.refund(order)) == "refund-underway"
    assert ada.refund(order, key="k").status_code == 201
    assert provider.asked.total() - asked == 1
    assert Refund.objects.count() == 1


def code_of(answer: Any) -> str:
    code: str = json.loads(answer.content)["code"]
    return code
