"""What becomes of events at the naive webhooks, one at a time; the demo shows the rest."""

from __future__ import annotations

from typing import Any

import pytest

from example_project.checkout.models import Booking, Confirmation, Payment
from tests.example.conftest import Customer, new_customer
from tests.example.deliveries import (
    deliver,
    deliver_batch,
    direct_debit,
    stripe_event,
)
from tests.example.providers import RecordingProvider

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
]

PAYMENTS = "/naive/webhooks/payments/"


@pytest.fixture
def ada(transactional_db: None, provider: RecordingProvider) -> Customer:
    return new_customer("ada", "view")


def test_repeat_is_seen(ada: Customer) -> None:
    event = stripe_event("evt_1", paid(ada))

    answers = [deliver(PAYMENTS, event) for _ in range(2)]

    assert [answer.content for answer in answers] == [b"done", b"seen"]
    assert Confirmation.objects.count() == 1


def test_copy_that_looks_before_the_mark_is_handled_too(
    ada: Customer, provider: RecordingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stripe_event("evt_1", paid(ada))

    def status_while_a_copy_arrives(charge_id: str) -> str:
        monkeypatch.undo()
        assert deliver(PAYMENTS, event).content == b"done"
        return "succeeded"

    monkeypatch.setattr(provider, "status", status_while_a_copy_arrives)

    assert deliver(PAYMENTS, event).content == b"done"
    assert Confirmation.objects.count() == 2


def test_event_that_fails_once_is_lost(
    ada: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = stripe_event("evt_1", paid(ada))
    with monkeypatch.context() as broken:
        broken.setattr(Confirmation, "save", fail)
        assert deliver(PAYMENTS, event).status_code == 500

    assert deliver(PAYMENTS, event).content == b"seen"
    assert not Confirmation.objects.exists()


def test_event_before_its_order_is_lost(ada: Customer) -> None:
    event = stripe_event("evt_1", "pi_early")

    answers = [deliver(PAYMENTS, event) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [404, 200]


def test_forgery_is_believed(ada: Customer) -> None:
    event = stripe_event("evt_1", paid(ada))

    assert deliver(PAYMENTS, event, secret="whsec_guess").status_code == 200  # noqa: S106
    assert Confirmation.objects.count() == 1


def test_other_endpoint_has_seen_it(ada: Customer) -> None:
    event = stripe_event("evt_1", paid(ada))
    deliver(PAYMENTS, event)

    assert deliver("/naive/webhooks/bookkeeping/", event).content == b"seen"
    assert not Booking.objects.exists()


def test_books_are_kept_at_once(ada: Customer) -> None:
    deliver("/naive/webhooks/bookkeeping/", stripe_event("evt_1", "pi_1"))

    assert Booking.objects.get().amount_minor == 2500


def test_bad_item_of_a_batch_is_lost(ada: Customer) -> None:
    path = "/naive/webhooks/direct-debits/"
    batch = [direct_debit("EV1", "PM_late"), direct_debit("EV2", paid(ada))]

    answers = [deliver_batch(path, batch) for _ in range(2)]

    assert [answer.content for answer in answers] == [b"unknown, done", b"seen, seen"]


def paid(customer: Customer) -> str:
    order = customer.order_in(customer.pay(customer.new_cart()))
    return Payment.objects.get(order=order).provider_id


def fail(*args: Any, **kwargs: Any) -> None:
    raise ValueError
