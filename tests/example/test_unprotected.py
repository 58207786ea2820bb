"""The demo's negative control takes the protection off, and nothing else."""

import pytest

from example_project.checkout.models import Order, Refund
from tests.example.conftest import Customer
from tests.example.deliveries import deliver, stripe_event
from tests.example.providers import RecordingProvider

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("example_project.theatre.demo.unprotected"),
]


@pytest.mark.parametrize("door", ["view", "drf", "leased"])  # where the demo goes
def test_repeats_are_not_recognised(ada: Customer) -> None:
    cart = ada.new_cart()
    paid, again = (ada.pay(cart, key="k") for _ in range(2))
    refunds = [ada.refund(ada.order_in(paid), key="k") for _ in range(2)]

    assert (paid.status_code, again.status_code) == (201, 409)
    assert [refund.status_code for refund in refunds] == [201, 409]
    assert (Order.objects.count(), Refund.objects.count()) == (1, 1)


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["view", "drf"])
def test_webhook_believes_everybody_and_loses_what_came_too_early(
    prefix: str, provider: RecordingProvider
) -> None:
    path, event = f"{prefix}/webhooks/payments/", stripe_event("evt_1", "pi_early")

    answers = [deliver(path, event, secret="whsec_guess") for _ in range(2)]  # noqa: S106

    assert [answer.status_code for answer in answers] == [404, 200]
