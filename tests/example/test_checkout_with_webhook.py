"""The customer's request and the provider's report of the same payment, at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest
from django.db import connections

from example_project.checkout.models import Cart, Confirmation, Order
from example_project.checkout.payments import payment_provider
from tests.example.conftest import Customer, new_customer
from tests.example.deliveries import deliver, stripe_event

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
    pytest.mark.usefixtures("webhook_secrets"),
]

ROUNDS = 50

T = TypeVar("T")


@pytest.fixture(autouse=True)
def provider(settings: Any) -> Iterator[None]:
    settings.PAYMENT_PROVIDER = "tests.example.providers.ForeseeableProvider"
    payment_provider.cache_clear()
    yield
    payment_provider.cache_clear()


def test_one_order_per_cart_in_each_round() -> None:
    """Field report FR-094, and the harder: two tabs, with a key each, and the webhook."""
    ada = new_customer("ada", "view")
    carts = [ada.new_cart() for _ in range(ROUNDS)]

    with ThreadPoolExecutor(3) as pool:
        statuses = [play_round(pool, ada, cart) for cart in carts]
        close_connections(pool, workers=3)

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


def play_round(
    pool: ThreadPoolExecutor, ada: Customer, cart: Cart
) -> tuple[int, int, int]:
    barrier = threading.Barrier(3, timeout=30)

    def together(send: Callable[[], T]) -> T:
        barrier.wait()
        return send()

    def pay() -> int:
        return ada.pay(cart, card=f"pm_{cart.pk}").status_code

    def report() -> int:
        return deliver("/webhooks/payments/", report_of(cart)).status_code

    first, second, webhook = pool.map(together, (pay, pay, report), timeout=60)
    return first, second, webhook


def report_of(cart: Cart) -> dict[str, object]:
    return stripe_event(f"evt_{cart.pk}", f"pi_{cart.pk}")


def close_connections(pool: ThreadPoolExecutor, *, workers: int) -> None:
    """Each thread has its own."""
    barrier = threading.Barrier(workers, timeout=30)

    def close(number: int) -> None:
        barrier.wait()
        connections.close_all()

    list(pool.map(close, range(workers)))
