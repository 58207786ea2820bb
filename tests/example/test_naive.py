"""What the naive checkout and webhooks do one at a time; the demo shows the rest."""

import pytest

from example_project.checkout.models import Booking, Confirmation, Payment
from example_project.theatre.naive.models import NaiveOrder
from tests.example.conftest import Customer, new_customer
from tests.example.deliveries import (
    SECRET,
    deliver,
    deliver_batch,
    direct_debit,
    stripe_event,
)
from tests.example.providers import DECLINED_CARD, RecordingProvider

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
]

PAYMENTS = "/naive/webhooks/payments/"


@pytest.fixture
def ada(transactional_db: None, provider: RecordingProvider) -> Customer:
    return new_customer("ada", "naive")


@pytest.fixture
def buyer(transactional_db: None, provider: RecordingProvider) -> Customer:
    return new_customer("ada", "view")


def test_second_look_finds_what_was_made(
    ada: Customer, provider: RecordingProvider
) -> None:
    cart = ada.new_cart()
    first, second = (ada.pay(cart) for _ in range(2))
    refunds = [ada.refund(ada.order_in(first)).status_code for _ in range(2)]

    assert (first.status_code, second.status_code) == (201, 409)
    assert (NaiveOrder.objects.count(), len(provider.charges)) == (1, 1)
    assert (refunds, len(provider.refunds)) == ([201, 409], 1)


def test_declined_card_and_empty_cart_are_refused(
    ada: Customer, provider: RecordingProvider
) -> None:
    assert ada.pay(ada.new_cart(), card=DECLINED_CARD).status_code == 402
    assert ada.pay(ada.new_cart(quantity=0)).status_code == 409
    assert ada.pay(ada.new_cart(), card="4242424242424242").status_code == 400
    assert not provider.charges


# Webhooks


def test_repeat_is_seen_and_a_forgery_is_believed(buyer: Customer) -> None:
    event = stripe_event("evt_1", paid(buyer))

    answers = [deliver(PAYMENTS, event, secret=each) for each in ("guess", SECRET)]

    assert [answer.content for answer in answers] == [b"done", b"seen"]
    assert Confirmation.objects.count() == 1


def test_books_are_kept_at_once(buyer: Customer) -> None:
    deliver("/naive/webhooks/bookkeeping/", stripe_event("evt_1", "pi_1"))

    assert Booking.objects.get().amount_minor == 2500


def test_bad_item_of_a_batch_is_lost(buyer: Customer) -> None:
    path = "/naive/webhooks/direct-debits/"
    batch = [direct_debit("EV1", "PM_late"), direct_debit("EV2", paid(buyer))]

    answers = [deliver_batch(path, batch) for _ in range(2)]

    assert [answer.content for answer in answers] == [b"unknown, done", b"seen, seen"]


def paid(customer: Customer) -> str:
    order = customer.order_in(customer.pay(customer.new_cart()))
    return Payment.objects.get(order=order).provider_id
