"""Carts for what is played, as many as it takes.

What is played at the same time is told apart by what the customers pay, so each side of
each run has a price of its own: a little more ribbon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from django.contrib.auth.models import User

from example_project.checkout.models import Cart, CartItem, Product

__all__ = ["Goods", "goods_with"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Goods:
    """What is in each of the carts."""

    quantities: Mapping[Product, int]

    @property
    def price_minor(self) -> int:
        return sum(
            product.price_minor * quantity
            for product, quantity in self.quantities.items()
        )

    def carts_of(self, customer: str) -> Iterator[int]:
        """The ids of new carts, without end."""
        user = User.objects.get(username=customer)
        while True:
            cart = Cart.objects.create(user=user)
            CartItem.objects.bulk_create(
                CartItem(cart=cart, product=product, quantity=quantity)
                for product, quantity in self.quantities.items()
            )
            yield cart.pk


def goods_with(*, ribbon: int) -> Goods:
    """Coffee and a mug, for more than any cart costs that the demo prepares, and so many
    centimetres of ribbon."""
    wanted = {"Coffee": 3, "Mug": 1, "Ribbon, a centimetre": ribbon}
    products = {name: Product.objects.get(name=name) for name in wanted}
    return Goods(quantities={products[name]: n for name, n in wanted.items()})
