"""Paying in the shop's pages: what comes twice, late, changed or from somebody else."""

import re
import uuid
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.mail import EmailMessage
from django.test import override_settings
from pytest_django import DjangoCaptureOnCommitCallbacks

import example_project
from example_project.checkout.models import Cart, Order, Product
from tests.example.providers import CardProvider
from tests.support.browser import hidden_fields, key_in

from .conftest import DECLINED_VISA, VISA, Visitor, checkout_path, order_path

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]


def test_guest_pays_and_gets_a_receipt(
    guest: Visitor,
    coffee: Product,
    mug: Product,
    mailbox: list[EmailMessage],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    cart = guest.fill_cart(coffee, mug)

    with django_capture_on_commit_callbacks(execute=True):
        paid = guest.pay(cart)

    assert paid.headers["Location"] == order_path(cart)
    assert Order.objects.get(cart=cart).amount_minor == 2150
    assert [mail.to for mail in mailbox] == [["ann@example.com"]]


def test_double_click_leads_to_one_order_and_one_page(
    guest: Visitor, coffee: Product, provider: CardProvider
) -> None:
    """FR-112: both POSTs lead to the same page, whose reload pays nothing."""
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)

    answers = [guest.pay(cart, form) for _ in range(2)]
    for _ in range(2):
        guest.visit(order_path(cart))

    assert [each.headers["Location"] for each in answers] == [order_path(cart)] * 2
    assert (Order.objects.count(), provider.asked.total()) == (1, 1)


def test_new_visit_to_the_form_gets_a_new_key(guest: Visitor, coffee: Product) -> None:
    """FR-112."""
    path = checkout_path(guest.fill_cart(coffee))

    assert key_in(guest.visit(path)) != key_in(guest.visit(path))


def test_error_is_tied_to_its_field_and_can_be_corrected(
    guest: Visitor, coffee: Product
) -> None:
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    refused = guest.pay(cart, {**form, "email": "nowhere"})
    page = refused.content.decode()

    paid = guest.pay(cart, {**form, **hidden_fields(refused)})

    assert 'aria-invalid="true"' in page
    assert 'aria-describedby="id_email_helptext id_email_error"' in page
    assert 'id="id_email_error"' in page
    assert (refused.status_code, paid.status_code) == (400, 302)


def test_declined_card_is_asked_once_and_followed_by_another_under_a_new_key(
    guest: Visitor, coffee: Product, provider: CardProvider
) -> None:
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart, card=DECLINED_VISA)
    declined, again = (guest.pay(cart, form) for _ in range(2))
    assert (again.content, provider.asked.total()) == (declined.content, 1)

    other_card = {**form, **hidden_fields(declined), "payment_method": VISA}
    paid = guest.pay(cart, other_card)

    assert (declined.status_code, paid.status_code) == (402, 302)
    assert (Order.objects.count(), len(provider.charges)) == (1, 1)


def test_page_after_a_lost_answer_sends_the_same_payment_again(
    guest: Visitor, coffee: Product, provider: CardProvider
) -> None:
    """With another key the provider would charge the card a second time."""
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    provider.answers_to_lose = 1
    lost = guest.pay(cart, form)
    again = hidden_fields(lost)

    paid = guest.pay(cart, again)

    assert (lost.status_code, paid.status_code) == (503, 302)
    assert {**again, "csrfmiddlewaretoken": ""} == {**form, "csrfmiddlewaretoken": ""}
    assert (Order.objects.count(), len(provider.charges)) == (1, 1)


def test_cart_that_grew_in_another_tab_is_not_charged_for(
    guest: Visitor, coffee: Product, mug: Product, provider: CardProvider
) -> None:
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    guest.fill_cart(mug)

    refused = guest.pay(cart, form)

    assert (refused.status_code, provider.asked.total()) == (409, 0)
    assert hidden_fields(refused)["agreed_minor"] == "2150"


def test_second_tab_is_told_and_charges_nothing(
    guest: Visitor, coffee: Product, provider: CardProvider
) -> None:
    """FR-069: the words are at the address, where a replay finds them too."""
    cart = guest.fill_cart(coffee)
    forms = [guest.checkout_form(cart) for _ in range(2)]
    guest.pay(cart, forms[0])

    answers = [guest.pay(cart, forms[1]) for _ in range(2)]

    told = f"{order_path(cart)}?already=paid"
    assert [each.headers["Location"] for each in answers] == [told] * 2
    assert b"Nothing was charged again" in guest.visit(told).content
    assert (Order.objects.count(), provider.asked.total()) == (1, 1)


def test_cart_that_was_emptied_in_another_tab_is_not_paid(
    guest: Visitor, coffee: Product, provider: CardProvider
) -> None:
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    cart.items.all().delete()

    answers = [guest.pay(cart, form), guest.client.get(checkout_path(cart))]

    for answer in answers:
        assert answer.headers["Location"] == f"/shop/carts/{cart.token}/"
    assert not provider.asked


def test_customer_is_asked_before_paying_in_a_second_tab(
    guest: Visitor,
    ann: User,
    coffee: Product,
    provider: CardProvider,
) -> None:
    own_pages = Path(example_project.__file__).parent / "templates"
    guest.sign_in_by_form()
    cart = guest.fill_cart(coffee)
    forms = [guest.checkout_form(cart) for _ in range(2)]
    guest.pay(cart, forms[0])

    with override_settings(TEMPLATES=[{**settings.TEMPLATES[0], "DIRS": [own_pages]}]):
        asked = guest.pay(cart, forms[1])
    assert (asked.status_code, provider.asked.total()) == (409, 1)
    assert re.search(rb"You paid for this cart \d+ seconds? ago", asked.content)
    again = hidden_fields(asked)
    assert again["idempotency_key"] == forms[1]["idempotency_key"]
    declined = guest.pay(cart, {**again, "payment_method": DECLINED_VISA})
    form = {**again, **hidden_fields(declined)}
    paid = [guest.pay(cart, form) for _ in range(2)]

    assert (declined.status_code, paid[0].status_code) == (402, 302)
    assert paid[0].headers["Location"] == paid[1].headers["Location"]
    assert paid[0].headers["Location"] != order_path(cart)
    first, second = Order.objects.order_by("pk")
    assert (first.cart, first.amount_minor) == (cart, second.amount_minor)
    assert len(provider.charges) == 2


# Guests and accounts


def test_guest_who_signs_in_after_paying_makes_no_second_order(
    guest: Visitor, ann: User, coffee: Product, provider: CardProvider
) -> None:
    """Signed in, it is another principal and another operation, of the same cart."""
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    guest.pay(cart, form)
    guest.sign_in_by_form()
    token = guest.client.cookies["csrftoken"].value

    again = guest.pay(cart, {**form, "csrfmiddlewaretoken": token})

    assert (
        b"Nothing was charged again" in guest.visit(again.headers["Location"]).content
    )
    assert (Order.objects.count(), provider.asked.total()) == (1, 1)


def test_form_from_before_signing_in_is_explained(
    guest: Visitor, ann: User, coffee: Product, provider: CardProvider, settings: object
) -> None:
    settings.CSRF_FAILURE_VIEW = "example_project.shop.views.csrf_failure"  # type: ignore[attr-defined]
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    guest.sign_in_by_form()

    answer = guest.pay(cart, form)

    assert (answer.status_code, provider.asked.total()) == (403, 0)
    assert f'href="{checkout_path(cart)}"' in answer.content.decode()


def test_guest_who_signs_in_keeps_the_cart(
    guest: Visitor, ann: User, coffee: Product
) -> None:
    cart = guest.fill_cart(coffee)
    guest.sign_in_by_form()

    guest.pay(Cart.objects.get(pk=cart.pk))

    assert Order.objects.get().cart.user == ann


def test_customer_whose_session_expired_signs_in_and_pays(
    ann: User, guest: Visitor, coffee: Product, provider: CardProvider
) -> None:
    guest.sign_in_by_form()
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    Session.objects.all().delete()

    sent_away = guest.pay(cart, form)
    guest.sign_in_by_form()
    guest.pay(cart)

    assert sent_away.headers["Location"] == (
        f"/accounts/login/?next={checkout_path(cart)}"
    )
    assert (Order.objects.count(), provider.asked.total()) == (1, 1)


def test_guest_whose_session_expired_pays(guest: Visitor, coffee: Product) -> None:
    cart = guest.fill_cart(coffee)
    form = guest.checkout_form(cart)
    Session.objects.all().delete()

    assert guest.pay(cart, form).headers["Location"] == order_path(cart)


@pytest.mark.parametrize("place", ["carts", "orders"])
def test_page_with_a_guessed_token_is_not_there(guest: Visitor, place: str) -> None:
    answer = guest.client.get(f"/shop/{place}/{uuid.uuid4()}/")

    assert answer.status_code == 404


@pytest.mark.parametrize("name", ["", "refund/"])
def test_order_of_a_customer_is_nobody_elses(
    guest: Visitor, ann: User, coffee: Product, name: str
) -> None:
    User.objects.create_user("ben", password="shops-here")  # noqa: S106
    cart = Cart.objects.create(user=ann)
    stranger = Visitor(name="ben")
    path = f"{order_path(cart)}{name}"

    as_guest = guest.client.get(path)
    stranger.sign_in_by_form()
    as_stranger = stranger.client.get(path)

    assert as_guest.headers["Location"] == f"/accounts/login/?next={path}"
    assert as_stranger.status_code == 404


def test_cart_of_somebody_else_in_the_session_is_not_ones_own(
    guest: Visitor, ann: User, coffee: Product
) -> None:
    cart = guest.fill_cart(coffee)
    Cart.objects.filter(pk=cart.pk).update(user=ann)

    assert b"There is nothing in it" in guest.visit("/shop/cart/").content
