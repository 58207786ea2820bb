"""The customer's request and the provider's report of the same payment, at once."""

from collections.abc import Iterator

import pytest

from example_project.checkout.models import Cart, Confirmation, Order
from tests.example.conftest import Customer, new_customer
from tests.example.deliveries import deliver, stripe_event
from tests.example.providers import ForeseeableProvider, paying_by
from tests.support.threads import all_at_once

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
    pytest.mark.usefixtures("webhook_secrets"),
]

ROUNDS = 50


@pytest.fixture(autouse=True)
def provider() -> Iterator[ForeseeableProvider]:
    with paying_by(ForeseeableProvider) as provider:
        yield provider


def test_one_order_per_cart_in_each_round() -> None:
    """Field report FR-094, and the harder: two tabs, with a key each, and the webhook."""
    ada = new_customer("ada", "view")
    carts = [ada.new_cart() for _ in range(ROUNDS)]

    statuses = [play_round(ada, cart) for cart in carts]

    # The second tab is another wish: not its key but the cart's lock refuses it.
    assert {tuple(sorted(pair[:2])) for pair in statuses} == {(201, 409)}
    # Too early, or in time; what was too early is delivered once more.
    assert {webhook for _, _, webhook in statuses} <= {200, 503}
    for cart in carts:
        assert deliver("/webhooks/payments/", report_of(cart)).status_code == 200
    assert sorted(Order.objects.values_list("cart", flat=True)) == sorted(
        cart.pk for cart in carts
    )
    assert Confirmation.objects.count() == ROUNDS


def play_round(ada: Customer, cart: Cart) -> list[int]:
    def pay() -> int:
        return ada.pay(cart, card=f"pm_{cart.pk}").status_code

    def report() -> int:
        status: int = deliver("/webhooks/payments/", report_of(cart)).status_code
        return status

    acts = (pay, pay, report)
    return all_at_once(len(acts), lambda number: acts[number]())


def report_of(cart: Cart) -> dict[str, object]:
    return stripe_event(f"evt_{cart.pk}", f"pi_{cart.pk}")
