"""Visitors of the shop's pages, in this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from django.contrib.auth.models import User

from example_project.checkout.models import Cart, Product
from tests.example.factories import ProductFactory
from tests.example.providers import CardProvider, paying_by
from tests.support.browser import Browser

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

VISA, DECLINED_VISA = "pm_card_visa", "pm_card_chargeCustomerFail"
PASSWORD = "shops-here"  # noqa: S105 - of a customer who lives as long as a test


@dataclass(frozen=True)
class Visitor(Browser):
    """A guest, who may sign in."""

    name: str = field(default="ann", kw_only=True)

    def fill_cart(self, *products: Product) -> Cart:
        for product in products:
            path = f"/shop/products/{product.pk}/add/"
            added = self.press(path, self.fill_in("/shop/"))
            self.visit(added.headers["Location"])
        return Cart.objects.get(token=added.headers["Location"].split("/")[3])

    def checkout_form(self, cart: Cart, *, card: str = VISA) -> dict[str, str]:
        email = {} if cart.user else {"email": f"{self.name}@example.com"}
        return self.fill_in(checkout_path(cart), payment_method=card, **email)

    def pay(self, cart: Cart, form: dict[str, str] | None = None) -> Answer:
        return self.press(checkout_path(cart), form or self.checkout_form(cart))

    def sign_in_by_form(self) -> Answer:
        path = "/accounts/login/"
        form = self.fill_in(path, username=self.name, password=PASSWORD)
        return self.press(path, form)


def checkout_path(cart: Cart) -> str:
    return f"/shop/carts/{cart.token}/checkout/"


def order_path(cart: Cart) -> str:
    return f"/shop/orders/{cart.token}/"


@pytest.fixture
def provider() -> Iterator[CardProvider]:
    with paying_by(CardProvider) as provider:
        yield provider


@pytest.fixture
def coffee(db: None) -> Product:
    return ProductFactory.create()


@pytest.fixture
def mug(db: None) -> Product:
    return ProductFactory.create(name="Mug", price_minor=900)


@pytest.fixture
def guest(db: None, provider: CardProvider) -> Visitor:
    return Visitor()


@pytest.fixture
def ann(db: None, provider: CardProvider) -> User:
    """The account of the visitor with that name."""
    return User.objects.create_user("ann", "ann@account.example", PASSWORD)
