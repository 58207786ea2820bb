"""Turning a cart into an order, and an order back into money.

Both functions run in the transaction of their caller and lock first what they decide
about, so that two *different* requests for one cart come one after the other.
"""

from __future__ import annotations

from .models import Cart, Order, Payment, Refund
from .payments import payment_provider
from .refusals import AlreadyRefunded, CartAlreadyOrdered, CartEmpty

__all__ = ["place_order", "refund_order"]


def place_order(cart: Cart, *, payment_method: str, key: str) -> Order:
    """Charge for the cart and make its order.

    Raises:
        Refusal: no order was made. See ProviderUnavailable for what that may mean.
    """
    cart = Cart.objects.select_for_update().get(pk=cart.pk)
    if cart.orders.exists():
        raise CartAlreadyOrdered
    amount = cart.amount_due()
    if not amount:
        raise CartEmpty
    charge_id = payment_provider().charge(
        amount_minor=amount, payment_method=payment_method, key=key
    )
    # A crash from here to the commit leaves a charge and no order. The customer's retry
    # brings the same key, gets the same charge back and makes the order.
    order = Order.objects.create(cart=cart, amount_minor=amount)
    Payment.objects.create(order=order, provider_id=charge_id, amount_minor=amount)
    return order


def refund_order(order: Order, *, key: str) -> Refund:
    """Give back all that was paid for the order.

    Raises:
        Refusal: no refund was made. See ProviderUnavailable for what that may mean.
    """
    payment = Payment.objects.select_for_update().get(order=order)
    if Refund.objects.filter(payment=payment).exists():
        raise AlreadyRefunded
    refund_id = payment_provider().refund(charge_id=payment.provider_id, key=key)
    return Refund.objects.create(
        payment=payment, provider_id=refund_id, amount_minor=payment.amount_minor
    )
