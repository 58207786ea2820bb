"""The checkout's promises at all of its doors, with a provider that honours keys."""

import json

import pytest
from django.core.management import call_command
from django.db import IntegrityError, transaction

from example_project.checkout.models import Order, Payment, Refund
from tests.example.conftest import Customer
from tests.example.providers import DECLINED_CARD, SILENT_CARD, RecordingProvider

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


def test_payment_makes_order_and_charge(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart(quantity=2, price_minor=1250)

    answer = ada.pay(cart, key="secret-of-ada", **{"X-Demo-Fault": "die-after-charge"})

    assert answer.status_code == 201  # the header of the demo kills nobody here
    assert "secret-of-ada" not in provider.asked
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


def test_declined_card_is_kept_and_another_pays(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()

    answers = [ada.pay(cart, key="k", card=DECLINED_CARD) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [402, 402]
    assert json.loads(answers[1].content)["code"] == "card-declined"
    assert (Order.objects.count(), provider.asked.total()) == (0, 1)
    assert ada.pay(cart, key="second").status_code == 201


def test_lost_answer_of_the_provider_is_asked_for_again(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()

    answers = [ada.pay(cart, key="k", card=SILENT_CARD) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 201]
    assert (Order.objects.count(), len(provider.charges)) == (1, 1)


def test_retry_after_a_crash_takes_the_same_charge(
    ada: Customer, provider: RecordingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    cart = ada.new_cart()
    with monkeypatch.context() as broken:
        broken.setattr(Payment, "save", None)
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


def test_key_is_of_one_customer_and_one_cart(
    ada: Customer, grace: Customer, provider: RecordingProvider
) -> None:
    carts = [(ada, ada.new_cart()), (ada, ada.new_cart()), (grace, grace.new_cart())]

    answers = [who.pay(cart, key="k") for who, cart in carts]

    assert [answer.status_code for answer in answers] == [201, 422, 201]
    assert (Order.objects.count(), len(provider.charges)) == (2, 2)


def test_cart_that_is_empty_or_somebody_elses_is_not_paid(
    ada: Customer, grace: Customer, provider: RecordingProvider
) -> None:
    assert ada.pay(ada.new_cart(quantity=0)).status_code == 409
    assert ada.pay(grace.new_cart()).status_code in (400, 404)
    assert not provider.asked


def test_signed_out_customer_does_not_get_in(ada: Customer) -> None:
    cart = ada.new_cart()
    ada.pay(cart, key="k")
    ada.http.logout()

    assert ada.pay(cart, key="k").status_code in (302, 401, 403)


def test_open_carts_are_those_not_ordered(ada: Customer) -> None:
    paid, still_open = ada.new_cart(), ada.new_cart()
    ada.pay(paid)

    assert ada.http.get("/carts/").json() == {"carts": [still_open.pk]}


def test_refund_is_made_once(ada: Customer, provider: RecordingProvider) -> None:
    order = ada.order_in(ada.pay(ada.new_cart()))

    first, second, other = (ada.refund(order, key=key) for key in ("k", "k", "other"))

    assert (second.status_code, second.content) == (201, first.content)
    assert other.status_code == 409
    assert (Refund.objects.count(), len(provider.refunds)) == (1, 1)


def test_order_of_somebody_else_is_not_refunded(
    ada: Customer, grace: Customer, provider: RecordingProvider
) -> None:
    order = grace.order_in(grace.pay(grace.new_cart()))

    assert ada.refund(order).status_code == 404
    assert not provider.refunds


@pytest.mark.parametrize("door", ["view"])
def test_cart_is_ordered_once_by_constraint(ada: Customer) -> None:
    cart = ada.new_cart()
    Order.objects.create(cart=cart, amount_minor=1)

    with (
        pytest.raises(IntegrityError, match=r"one_order_per_cart|checkout_order"),
        transaction.atomic(),
    ):
        Order.objects.create(cart=cart, amount_minor=1)


def test_migrations_are_complete() -> None:
    call_command("makemigrations", "checkout", "naive", check=True, dry_run=True)
