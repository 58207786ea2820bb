"""What the shop does when payment providers report, at both of its doors."""

from datetime import UTC, datetime
from typing import Any

import pytest

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks.inbox import Step, process_next
from example_project.checkout.models import Booking, Confirmation, Order, Payment
from tests.example.conftest import Customer, new_customer
from tests.example.deliveries import (
    OLD_SECRET,
    deliver,
    deliver_batch,
    direct_debit,
    stripe_event,
)
from tests.example.factories import OrderFactory
from tests.example.providers import RecordingProvider

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
    pytest.mark.usefixtures("webhook_secrets"),
]

BOOKKEEPING = "/webhooks/bookkeeping/"


@pytest.fixture(params=["", "/api"], ids=["view", "drf"])
def path(request: pytest.FixtureRequest) -> str:
    return f"{request.param}/webhooks/payments/"


@pytest.fixture
def ada(transactional_db: None, provider: RecordingProvider) -> Customer:
    return new_customer("ada", "view")


def test_event_confirms_the_payment_once(ada: Customer, path: str) -> None:
    payment = paid(ada)
    event = stripe_event("evt_1", payment.provider_id)

    answers = [deliver(path, event) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert confirmed() == ["evt_1"]
    payment.refresh_from_db()
    assert payment.status == "succeeded"


def test_event_before_its_order_is_asked_for_again(ada: Customer, path: str) -> None:
    event = stripe_event("evt_1", "pi_early")

    early = deliver(path, event)
    Payment.objects.create(
        order=order_of(ada), provider_id="pi_early", amount_minor=2500
    )
    late = deliver(path, event)

    assert (early.status_code, late.status_code) == (503, 200)
    assert int(early.headers["Retry-After"]) > 0
    assert confirmed() == ["evt_1"]


def test_forgery_leaves_nothing_and_spoils_nothing(ada: Customer, path: str) -> None:
    event = stripe_event("evt_1", paid(ada).provider_id)

    assert deliver(path, event, secret="whsec_guess").status_code == 401  # noqa: S106
    assert not ProcessedEvent.objects.exists()
    # The secret before the newest is still good.
    assert deliver(path, event, secret=OLD_SECRET).status_code == 200
    assert confirmed() == ["evt_1"]


def test_failure_undoes_what_the_handler_did(
    ada: Customer, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment = paid(ada)
    event = stripe_event("evt_1", payment.provider_id)
    with monkeypatch.context() as broken:
        broken.setattr(Confirmation, "save", fail)

        assert deliver(path, event).status_code == 500

    payment.refresh_from_db()
    assert payment.status == ""
    assert deliver(path, event).status_code == 200
    assert confirmed() == ["evt_1"]


def test_older_event_is_handled_and_does_not_undo_the_newer(
    ada: Customer, path: str
) -> None:
    """Field report FR-095."""
    payment = paid(ada)

    newer = stripe_event("evt_2", payment.provider_id, created=2_000)
    older = stripe_event(
        "evt_1", payment.provider_id, status="processing", created=1_000
    )
    answers = [deliver(path, event) for event in (newer, older)]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert confirmed() == ["evt_1", "evt_2"]
    payment.refresh_from_db()
    assert payment.status == "succeeded"
    assert payment.status_at == datetime.fromtimestamp(2_000, UTC)
    # Of two in one second, the later to arrive wins.
    deliver(path, stripe_event("evt_3", payment.provider_id, status="processing"))
    payment.refresh_from_db()
    assert payment.status == "processing"


def test_batch_waits_for_its_bad_item_and_repeats_no_other(
    ada: Customer, path: str
) -> None:
    """Field report FR-091."""
    path = path.replace("payments", "direct-debits")
    first, third = paid(ada), paid(ada)
    batch = [
        direct_debit("EV1", first.provider_id),
        direct_debit("EV2", "PM_late"),
        direct_debit("EV3", third.provider_id),
        direct_debit("EV3", third.provider_id),
    ]

    assert deliver_batch(path, batch).status_code == 503
    assert confirmed() == ["EV1", "EV3"]
    Payment.objects.create(
        order=order_of(ada), provider_id="PM_late", amount_minor=2500
    )
    assert deliver_batch(path, batch).status_code == 204
    assert deliver_batch(path, batch).status_code == 204
    assert confirmed() == ["EV1", "EV2", "EV3"]


def test_money_that_came_in_is_booked_by_the_worker(ada: Customer) -> None:
    event = stripe_event("evt_1", "pi_1")
    deliver(BOOKKEEPING, stripe_event("evt_2", "pi_2", status="processing"))

    assert [deliver(BOOKKEEPING, event).status_code for _ in range(2)] == [200, 200]
    assert not Booking.objects.exists()
    steps = [process_next() for _ in range(3)]
    assert steps == [Step.PROCESSED, Step.PROCESSED, Step.NOTHING_DUE]
    booking = Booking.objects.get()
    assert (booking.provider_id, booking.amount_minor) == ("pi_1", 2500)


def paid(customer: Customer) -> Payment:
    return Payment.objects.get(
        order=customer.order_in(customer.pay(customer.new_cart()))
    )


def order_of(customer: Customer) -> Order:
    return OrderFactory.create(cart=customer.new_cart())


def confirmed() -> list[str]:
    """The events that the shop acted on, each as often as it did."""
    return sorted(Confirmation.objects.values_list("event_id", flat=True))


def fail(*args: Any, **kwargs: Any) -> None:
    raise ValueError
