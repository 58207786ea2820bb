"""The checkout's promises at all of its doors, with a provider that honours keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.db.models.signals import post_save

from example_project.checkout.models import Order, Payment, Refund
from tests.example.conftest import Customer
from tests.example.providers import (
    DECLINED_CARD,
    SILENT_CARD,
    RecordingProvider,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


@pytest.fixture(params=["view", "drf", "leased"])
def door(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_payment_makes_order_and_charge(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart(quantity=2, price_minor=1250)

    answer = ada.pay(cart)

    assert answer.status_code == 201
    order = Order.objects.get(pk=ada.order_in(answer), cart=cart)
    assert order.amount_minor == order.payment.amount_minor == 2500
    assert list(provider.charges.values()) == [2500]


def test_repeat_gets_the_first_answer(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()

    first, second = ada.pay(cart, key="k"), ada.pay(cart, key="k")

    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (Order.objects.count(), provider.asked.total()) == (1, 1)


def test_provider_never_sees_the_customers_key(
    ada: Customer, provider: RecordingProvider
) -> None:
    ada.pay(ada.new_cart(), key="secret-of-ada")

    assert "secret-of-ada" not in provider.asked


def test_declined_card_is_kept(ada: Customer, provider: RecordingProvider) -> None:
    cart = ada.new_cart()

    answers = [ada.pay(cart, key="k", card=DECLINED_CARD) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [402, 402]
    assert json.loads(answers[1].content)["code"] == "card-declined"
    assert (Order.objects.count(), provider.asked.total()) == (0, 1)


def test_another_card_after_a_decline_pays(ada: Customer) -> None:
    cart = ada.new_cart()
    ada.pay(cart, key="first", card=DECLINED_CARD)

    assert ada.pay(cart, key="second").status_code == 201


def test_lost_answer_of_the_provider_is_asked_for_again(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()

    answers = [ada.pay(cart, key="k", card=SILENT_CARD) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 201]
    assert (Order.objects.count(), len(provider.charges)) == (1, 1)


def test_retry_after_a_crash_takes_the_same_charge(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()
    with crash_on_saving_payment():
        assert ada.pay(cart, key="k").status_code == 500
    assert (Order.objects.count(), len(provider.charges)) == (0, 1)

    assert ada.pay(cart, key="k").status_code == 201
    assert (Order.objects.count(), len(provider.charges)) == (1, 1)


def test_other_key_for_an_ordered_cart_is_refused(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()
    ada.pay(cart)

    answer = ada.pay(cart)

    assert answer.status_code == 409
    assert json.loads(answer.content)["code"] == "cart-already-ordered"
    assert (Order.objects.count(), len(provider.charges)) == (1, 1)


def test_same_key_for_another_cart_is_a_mismatch(
    ada: Customer, provider: RecordingProvider
) -> None:
    ada.pay(ada.new_cart(), key="k")

    assert ada.pay(ada.new_cart(), key="k").status_code == 422
    assert len(provider.charges) == 1


def test_same_key_of_two_customers_is_two_orders(
    ada: Customer, grace: Customer, provider: RecordingProvider
) -> None:
    carts = {ada: ada.new_cart(), grace: grace.new_cart()}

    answers = [who.pay(cart, key="k") for who, cart in carts.items()]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert (Order.objects.count(), len(provider.charges)) == (2, 2)


def test_cart_of_somebody_else_is_unknown(
    ada: Customer, grace: Customer, provider: RecordingProvider
) -> None:
    assert ada.pay(grace.new_cart()).status_code == 400
    assert not provider.asked


def test_empty_cart_is_not_paid(ada: Customer, provider: RecordingProvider) -> None:
    assert ada.pay(ada.new_cart(quantity=0)).status_code == 409
    assert not provider.asked


def test_signed_out_customer_does_not_get_in(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()
    ada.pay(cart, key="k")
    ada.http.logout()

    assert ada.pay(cart, key="k").status_code in (302, 403)


def test_open_carts_are_those_not_ordered(ada: Customer) -> None:
    paid, still_open = ada.new_cart(), ada.new_cart()
    ada.pay(paid)

    assert ada.http.get("/carts/").json() == {"carts": [still_open.pk]}


def test_refund_is_made_once(ada: Customer, provider: RecordingProvider) -> None:
    order = ada.order_in(ada.pay(ada.new_cart()))

    first, second = ada.refund(order, key="k"), ada.refund(order, key="k")

    assert (second.status_code, second.content) == (201, first.content)
    assert (Refund.objects.count(), len(provider.refunds)) == (1, 1)


def test_refund_with_another_key_is_refused(
    ada: Customer, provider: RecordingProvider
) -> None:
    order = ada.order_in(ada.pay(ada.new_cart()))
    ada.refund(order)

    assert ada.refund(order).status_code == 409
    assert len(provider.refunds) == 1


def test_order_of_somebody_else_is_not_refunded(
    ada: Customer, grace: Customer, provider: RecordingProvider
) -> None:
    order = grace.order_in(grace.pay(grace.new_cart()))

    assert ada.refund(order).status_code == 404
    assert not provider.refunds


def test_cart_is_ordered_once_by_constraint(ada: Customer) -> None:
    cart = ada.new_cart()
    Order.objects.create(cart=cart, amount_minor=1)

    with (
        pytest.raises(IntegrityError, match=r"one_order_per_cart|checkout_order"),
        transaction.atomic(),
    ):
        Order.objects.create(cart=cart, amount_minor=1)


def test_header_of_the_demo_kills_nobody(ada: Customer) -> None:
    answer = ada.pay(ada.new_cart(), **{"X-Demo-Fault": "die-after-charge"})

    assert answer.status_code == 201


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "checkout", "naive", check=True, dry_run=True)


@contextmanager
def crash_on_saving_payment() -> Iterator[None]:
    def crash(**_: object) -> None:
        raise RuntimeError("The database server is gone.")

    post_save.connect(crash, sender=Payment)
    try:
        yield
    finally:
        post_save.disconnect(crash, sender=Payment)
