"""Filling a cart, and whose it is.

What changes a cart locks it first, as paying for it does: nothing is put in between the
amount and the charge.
"""

from __future__ import annotations

from .models import Cart, CartItem, Product
from .refusals import CartAlreadyOrdered, CheckoutUnderway

__all__ = ["put_in", "same_again", "set_quantity", "take_over"]


def put_in(cart: Cart, product: Product) -> None:
    """One more of the product.

    Raises:
        Refusal: the cart is paid, or about to be.
    """
    _lock(cart)
    item, is_new = CartItem.objects.get_or_create(cart=cart, product=product)
    if not is_new:
        item.quantity += 1
        item.save(update_fields=["quantity"])


def set_quantity(cart: Cart, product: Product, quantity: int) -> None:
    """So many of the product, or none of it; needs no key, since twice is as once.

    Raises:
        Refusal: the cart is paid, or about to be.
    """
    _lock(cart)
    items = CartItem.objects.filter(cart=cart, product=product)
    if quantity:
        items.update(quantity=quantity)
    else:
        items.delete()


def same_again(cart: Cart) -> Cart:
    """Return a new cart of the same customer with the same in it."""
    again = Cart.objects.create(user=cart.user)
    for item in cart.items.select_related("product"):
        again.items.create(product=item.product, quantity=item.quantity)
    return again


def take_over(token: str, *, user_id: int) -> None:
    """Let the guest who signs in keep the cart, and the order if it has one."""
    Cart.objects.filter(token=token, user=None).update(user=user_id)


def _lock(cart: Cart) -> None:
    locked = Cart.objects.select_for_update().get(pk=cart.pk)
    if locked.orders.exists():
        raise CartAlreadyOrdered
    if locked.reserved_by is not None:
        raise CheckoutUnderway
