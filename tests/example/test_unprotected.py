"""The demo's negative control takes the protection off, and nothing else."""

from __future__ import annotations

import pytest

from example_project.checkout.models import Order, Refund
from tests.example.conftest import Customer
from tests.example.deliveries import deliver, stripe_event
from tests.example.providers import SILENT_CARD, RecordingProvider

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("example_project.demo.unprotected"),
]


@pytest.fixture(params=["view", "drf", "leased"])
def door(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_repeat_is_not_recognised(ada: Customer) -> None:
    cart = ada.new_cart()

    answers = [ada.pay(cart, key="k") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 409]
    assert Order.objects.count() == 1


def test_retry_charges_again(ada: Customer, provider: RecordingProvider) -> None:
    cart = ada.new_cart()

    answers = [ada.pay(cart, key="k", card=SILENT_CARD) for _ in range(2)]

    # Two keys at the provider, whose first answer is lost each time.
    assert [answer.status_code for answer in answers] == [503, 503]
    assert len(provider.charges) == 2


def test_repeated_refund_is_not_recognised(ada: Customer) -> None:
    order = ada.order_in(ada.pay(ada.new_cart()))

    answers = [ada.refund(order, key="k") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 409]
    assert Refund.objects.count() == 1


@pytest.mark.parametrize("prefix", ["", "/api"], ids=["view", "drf"])
def test_webhook_believes_everybody_and_loses_what_came_too_early(
    prefix: str, provider: RecordingProvider
) -> None:
    path, event = f"{prefix}/webhooks/payments/", stripe_event("evt_1", "pi_early")

    answers = [deliver(path, event, secret="whsec_guess") for _ in range(2)]  # noqa: S106

    assert [answer.status_code for answer in answers] == [404, 200]
