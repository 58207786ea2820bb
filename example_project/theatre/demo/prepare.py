"""Fill the demo's empty database; prints who shops there, as JSON.

    python -m example_project.theatre.demo.prepare

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
#: Those of the scenarios that are played at the same time as others.
OTHERS = 8
CARTS_OF_OTHERS = 8


def main() -> None:
    django.setup()
    call_command("migrate", verbosity=0)
    customers = [_make_customer(name, carts=CARTS_EACH) for name in CUSTOMERS]
    customers += [
        _make_customer(f"customer{number}", carts=CARTS_OF_OTHERS, extras=number)
        for number in range(1, OTHERS + 1)
    ]
    json.dump({"customers": customers, "owner": _make_owner()}, sys.stdout)


def _make_owner() -> dict[str, str]:
    """The owner sees everything in the admin, and may settle and rerun."""
    from django.contrib.auth.models import Permission, User

    name, password = "owner", "owner-looks-after-it"
    owner = User.objects.create_user(name, "owner@example.com", password, is_staff=True)
    seen = Permission.objects.filter(codename__startswith="view_")
    acted_on = Permission.objects.filter(
        codename__in=["settle_idempotencyrecord", "rerun_processedevent"]
    )
    owner.user_permissions.set(seen | acted_on)
    return {"name": name, "password": password}


def _make_customer(name: str, *, carts: int, extras: int = 0) -> dict[str, object]:
    """A customer with other `extras` pays another amount, and is recognised by it."""
    from django.contrib.auth.models import User

    from example_project.checkout.models import Cart, CartItem, Product

    password = f"{name}-shops-here"
    user = User.objects.create_user(name, f"{name}@example.com", password)
    coffee, _ = Product.objects.get_or_create(name="Coffee", price_minor=1250)
    mug, _ = Product.objects.get_or_create(name="Mug", price_minor=900)
    Product.objects.get_or_create(name="Ribbon, a centimetre", price_minor=1)
    wrapping, _ = Product.objects.get_or_create(name="Wrapping", price_minor=100)
    bought = [(coffee, 2), (mug, 1)] + ([(wrapping, extras)] if extras else [])
    made = Cart.objects.bulk_create(Cart(user=user) for _ in range(carts))
    CartItem.objects.bulk_create(
        CartItem(cart=cart, product=product, quantity=quantity)
        for cart in made
        for product, quantity in bought
    )
    return {
        "name": name,
        "password": password,
        "carts": [cart.pk for cart in made],
        "cart_amount_minor": made[0].amount_due(),
    }


if __name__ == "__main__":
    main()
