"""Filling a cart in the shop's pages."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User

from example_project.checkout.models import Cart, Order, Product
from tests.integration.browser import hidden_fields

from .conftest import Visitor

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


def contents(cart: Cart) -> list[tuple[str, int]]:
    return list(cart.items.order_by("pk").values_list("product__name", "quantity"))


def change(visitor: Visitor, cart: Cart, product: Product, quantity: object) -> int:
    path = f"/shop/carts/{cart.token}/items/{product.pk}/"
    form = hidden_fields(visitor.visit("/shop/"))
    return visitor.press(path, {**form, "quantity": str(quantity)}).status_code


def test_double_click_puts_one_in_and_leads_to_one_cart(
    guest: Visitor, coffee: Product
) -> None:
    """FR-112: also for who has no session yet, since replays set no cookies."""
    path = f"/shop/products/{coffee.pk}/add/"
    form = guest.fill_in("/shop/")

    answers = [guest.press(path, form) for _ in range(2)]

    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert contents(Cart.objects.get()) == [("Coffee", 1)]


def test_adding_sets_no_cookie(guest: Visitor, coffee: Product) -> None:
    """Of two clicks the browser gives up the first answer, and its cookies with it."""
    added = guest.press(f"/shop/products/{coffee.pk}/add/", guest.fill_in("/shop/"))

    assert "sessionid" not in added.cookies


def test_same_product_again_is_one_more(guest: Visitor, coffee: Product) -> None:
    assert contents(guest.fill_cart(coffee, coffee)) == [("Coffee", 2)]


def test_product_that_is_not_sold_is_not_there(guest: Visitor) -> None:
    form = {"idempotency_key": str(uuid.uuid4())}
    client = guest.client
    client.handler.enforce_csrf_checks = False

    assert client.post("/shop/products/0/add/", form).status_code == 404


def test_cart_of_who_is_signed_in_is_the_accounts(
    guest: Visitor, ann: User, coffee: Product
) -> None:
    guest.sign_in_by_form()

    assert guest.fill_cart(coffee).user == ann


def test_own_cart_is_the_one_that_was_filled(guest: Visitor, coffee: Product) -> None:
    cart = guest.fill_cart(coffee)

    own = guest.client.get("/shop/cart/")

    assert own.headers["Location"] == f"/shop/carts/{cart.token}/"


def test_what_is_added_after_paying_is_in_a_new_cart(
    guest: Visitor, coffee: Product, mug: Product
) -> None:
    paid = guest.fill_cart(coffee)
    guest.pay(paid)

    assert contents(guest.fill_cart(mug)) == [("Mug", 1)]


def test_product_that_comes_while_its_cart_is_being_paid_is_in_a_new_one(
    guest: Visitor, coffee: Product, mug: Product
) -> None:
    cart = guest.fill_cart(coffee)
    Cart.objects.filter(pk=cart.pk).update(reserved_by=uuid.uuid4())

    assert contents(guest.fill_cart(mug)) == [("Mug", 1)]
    assert contents(cart) == [("Coffee", 1)]


@pytest.mark.parametrize(
    ("quantity", "left"), [(3, [("Coffee", 3)]), (0, [])], ids=["more", "none"]
)
def test_quantity_is_changed(
    guest: Visitor, coffee: Product, quantity: int, left: list[tuple[str, int]]
) -> None:
    cart = guest.fill_cart(coffee)

    assert change(guest, cart, coffee, quantity) == 302
    assert contents(cart) == left


@pytest.mark.parametrize("quantity", ["-1", "100", "many", ""])
def test_quantity_that_cannot_be_is_refused(
    guest: Visitor, coffee: Product, quantity: str
) -> None:
    cart = guest.fill_cart(coffee)

    assert change(guest, cart, coffee, quantity) == 400
    assert contents(cart) == [("Coffee", 1)]


def test_quantity_in_a_paid_cart_stays(guest: Visitor, coffee: Product) -> None:
    cart = guest.fill_cart(coffee)
    Order.objects.create(cart=cart, amount_minor=1250)

    assert change(guest, cart, coffee, 3) == 409
    assert contents(cart) == [("Coffee", 1)]


@pytest.mark.parametrize("path", ["add", "quantity"])
def test_visit_to_what_takes_a_form_leads_to_the_form(
    guest: Visitor, coffee: Product, path: str
) -> None:
    cart = guest.fill_cart(coffee)
    visited, form_page = {
        "add": (f"/shop/products/{coffee.pk}/add/", "/shop/"),
        "quantity": (
            f"/shop/carts/{cart.token}/items/{coffee.pk}/",
            f"/shop/carts/{cart.token}/",
        ),
    }[path]

    assert guest.client.get(visited).headers["Location"] == form_page
