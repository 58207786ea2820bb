"""Turning a cart into an order while the provider takes its time: the leased shape.

No transaction is open while the provider works, so that a slow one pins no connection.
Each step is remembered once it is done: whoever resumes the operation after a crash is
given what the steps came to, and makes only the others. What a step decides by, such as
whether the cart is ordered, must therefore be looked at inside of it.
"""

from __future__ import annotations

from typing import Literal

from django_idempotency.http import Idempotency

from .models import Cart, Order
from .ordering import (
    give_cart_back,
    record_order,
    record_refund,
    reserve_cart,
    reserve_refund,
)
from .payments import payment_provider
from .receipts import send_after_commit, send_receipt
from .refusals import CardDeclined

__all__ = ["pay_in_steps", "refund_in_steps"]


def pay_in_steps(
    operation: Idempotency, cart: Cart, *, payment_method: str
) -> tuple[int, int]:
    """Charge for the cart and make its order; returns the order's id and the amount.

    Raises:
        Refusal: no order was made. See ProviderUnavailable for what that may mean.
    """

    def charge(key: str) -> str | None:
        try:
            return payment_provider().charge(
                amount_minor=amount, payment_method=payment_method, key=key
            )
        except CardDeclined:
            return None  # the bank's answer is an outcome, and remembered as such

    # The amount is remembered too: with another price the provider would refuse the key.
    amount: int = operation.write(
        "reserve", lambda: reserve_cart(cart, by=operation.record_id)
    )
    charge_id = operation.call("charge", charge, if_unknown=_if_unknown())
    if charge_id is None:
        operation.write("give back", lambda: give_cart_back(cart))
        raise CardDeclined
    order_id: int = operation.write(
        "order",
        lambda: record_order(cart, amount_minor=amount, charge_id=charge_id).pk,
    )
    # Outside of the step: should we die in between, the retry sends it.
    send_after_commit(send_receipt, order_id)
    return order_id, amount


def refund_in_steps(operation: Idempotency, order: Order) -> tuple[int, int]:
    """Give back all that was paid; returns the refund's id and the amount.

    Raises:
        Refusal: no refund was made. See ProviderUnavailable for what that may mean.
    """
    charge_id: str = operation.write(
        "reserve", lambda: reserve_refund(order, by=operation.record_id)
    )
    refund_id: str = operation.call(
        "refund",
        lambda key: payment_provider().refund(charge_id=charge_id, key=key),
        if_unknown=_if_unknown(),
    )
    refund: int = operation.write(
        "refund record", lambda: record_refund(order, refund_id=refund_id).pk
    )
    return refund, order.amount_minor


def _if_unknown() -> Literal["repeat", "hold"]:
    """Ask again with the same key, or, where keys mean nothing, let a person look."""
    return "repeat" if payment_provider().honours_keys else "hold"
