"""Filling a cart in the shop's pages."""

import uuid

import pytest
from django.contrib.auth.models import User

from example_project.checkout.models import Cart, Order, Product
from tests.support.browser import hidden_fields

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
    """FR-112: also for who has no session yet, since replays set no cookies.

    Of two clicks the browser gives up the first answer, and its cookies with it.
    """
    path = f"/shop/products/{coffee.pk}/add/"
    form = guest.fill_in("/shop/")

    answers = [guest.press(path, form) for _ in range(2)]

    assert answers[0].headers["Location"] == answers[1].headers["Location"]
    assert "sessionid" not in answers[0].cookies
    assert contents(Cart.objects.get()) == [("Coffee", 1)]


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


def test_same_product_again_is_one_more_in_ones_own_cart(
    guest: Visitor, coffee: Product
) -> None:
    cart = guest.fill_cart(coffee, coffee)
    own = guest.client.get("/shop/cart/")

    assert contents(cart) == [("Coffee", 2)]
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
    ("quantity", "status", "left"),
    [
        ("3", 302, [("Coffee", 3)]),
        ("0", 302, []),
        *((each, 400, [("Coffee", 1)]) for each in ("-1", "100", "many", "")),
    ],
)
def test_quantity_is_changed_to_what_can_be(
    guest: Visitor,
    coffee: Product,
    quantity: str,
    status: int,
    left: list[tuple[str, int]],
) -> None:
    cart = guest.fill_cart(coffee)

    assert change(guest, cart, coffee, quantity) == status
    assert contents(cart) == left


def test_quantity_in_a_paid_cart_stays(guest: Visitor, coffee: Product) -> None:
    cart = guest.fill_cart(coffee)
    Order.objects.create(cart=cart, amount_minor=1250)

    assert change(guest, cart, coffee, 3) == 409
    assert contents(cart) == [("Coffee", 1)]
