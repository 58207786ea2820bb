"""Fill the demo's empty database; prints who shops there, as JSON.

    python -m example_project.demo.prepare

A process of its own, so that the command that runs the demo never connects to the
database that its settings name.
"""

from __future__ import annotations

import json
import sys

import django
from django.core.management import call_command

CUSTOMERS = ("ada", "grace")
CARTS_EACH = 80


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    customers = [_make_customer(name) for name in CUSTOMERS]
    json.dump(customers, sys.stdout)


def _make_customer(name: str) -> dict[str, object]:
    from django.contrib.auth.models import User

    from example_project.checkout.models import Cart, CartItem, Product

    password = f"{name}-shops-here"
    user = User.objects.create_user(name, password=password)
    coffee, _ = Product.objects.get_or_create(name="Coffee", price_minor=1250)
    mug, _ = Product.objects.get_or_create(name="Mug", price_minor=900)
    carts = Cart.objects.bulk_create(Cart(user=user) for _ in range(CARTS_EACH))
    CartItem.objects.bulk_create(
        CartItem(cart=cart, product=product, quantity=quantity)
        for cart in carts
        for product, quantity in ((coffee, 2), (mug, 1))
    )
    return {
        "name": name,
        "password": password,
        "carts": [cart.pk for cart in carts],
        "cart_amount_minor": carts[0].amount_due(),
    }


if __name__ == "__main__":
    main()
