"""Turning a cart into an order, and an order back into money.

All run in the transaction of their caller and lock first what they decide about, so that
two *different* requests for one cart come one after the other. Who pays outside of any
transaction reserves the cart first, as `ordering_in_steps` does.
"""

from __future__ import annotations

import uuid

from .models import Cart, Order, Payment, Refund
from .payments import payment_provider
from .receipts import send_after_commit, send_receipt
from .refusals import (
    AlreadyRefunded,
    CartAlreadyOrdered,
    CartChanged,
    CartEmpty,
    CheckoutUnderway,
    RefundUnderway,
)

__all__ = [
    "give_cart_back",
    "place_order",
    "record_order",
    "record_refund",
    "refund_order",
    "reserve_cart",
    "reserve_refund",
]


def place_order(
    cart: Cart,
    *,
    payment_method: str,
    key: str,
    agreed_minor: int | None = None,
    email: str = "",
) -> Order:
    """Charge for the cart and make its order.

    `agreed_minor` is what the customer was shown, and nothing else is charged; `email` is
    where a guest wants the receipt.

    Raises:
        Refusal: no order was made. See ProviderUnavailable for what that may mean.
    """
    amount = reserve_cart(cart, by=None)
    if agreed_minor not in (None, amount):
        raise CartChanged
    charge_id = payment_provider().charge(
        amount_minor=amount, payment_method=payment_method, key=key
    )
    # A crash from here to the commit leaves a charge and no order. The customer's retry
    # brings the same key, gets the same charge back and makes the order.
    order = record_order(cart, amount_minor=amount, charge_id=charge_id, email=email)
    send_after_commit(send_receipt, order.pk)
    return order


def refund_order(order: Order, *, key: str) -> Refund:
    """Give back all that was paid for the order.

    Raises:
        Refusal: no refund was made. See ProviderUnavailable for what that may mean.
    """
    charge_id = reserve_refund(order, by=None)
    refund_id = payment_provider().refund(charge_id=charge_id, key=key)
    return record_refund(order, refund_id=refund_id)


def reserve_cart(cart: Cart, *, by: uuid.UUID | None) -> int:
    """Keep other requests off the cart, and return the amount that is due.

    The lock keeps them off to the end of this transaction, and if it has a name the
    operation `by` until it has made the order or given the cart back.

    Raises:
        Refusal: there is nothing to pay, or not for this operation.
    """
    cart = Cart.objects.select_for_update().get(pk=cart.pk)
    if cart.orders.exists():
        raise CartAlreadyOrdered
    if cart.reserved_by not in (None, by):
        raise CheckoutUnderway
    amount = cart.amount_due()
    if not amount:
        raise CartEmpty
    if by is not None:
        Cart.objects.filter(pk=cart.pk).update(reserved_by=by)
    return amount


def give_cart_back(cart: Cart) -> None:
    """Let others pay for the cart, by another card for example."""
    Cart.objects.filter(pk=cart.pk).update(reserved_by=None)


def record_order(
    cart: Cart, *, amount_minor: int, charge_id: str, email: str = ""
) -> Order:
    """Make the order of a cart that is paid."""
    order = Order.objects.create(cart=cart, amount_minor=amount_minor, email=email)
    Payment.objects.create(
        order=order, provider_id=charge_id, amount_minor=amount_minor
    )
    return order


def reserve_refund(order: Order, *, by: uuid.UUID | None) -> str:
    """As `reserve_cart`; returns the provider's id of the charge to give back.

    Raises:
        Refusal: the money went back, or is about to.
    """
    payment = Payment.objects.select_for_update().get(order=order)
    if Refund.objects.filter(payment=payment).exists():
        raise AlreadyRefunded
    if payment.reserved_by not in (None, by):
        raise RefundUnderway
    if by is not None:
        Payment.objects.filter(pk=payment.pk).update(reserved_by=by)
    return payment.provider_id


def record_refund(order: Order, *, refund_id: str) -> Refund:
    """Note that the money of the order went back."""
    payment = Payment.objects.get(order=order)
    return Refund.objects.create(
        payment=payment, provider_id=refund_id, amount_minor=payment.amount_minor
    )
