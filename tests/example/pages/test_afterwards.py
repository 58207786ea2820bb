"""After paying: refunds, another e-mail address, and the mails."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend
from pytest_django import DjangoCaptureOnCommitCallbacks

from example_project.checkout.models import Cart, EmailChange, Product, Refund
from example_project.shop.outbox import newest_mails
from tests.example.providers import CardProvider

from .conftest import Visitor, order_path

pytestmark = [pytest.mark.django_db, pytest.mark.urls("example_project.urls")]

EMAIL = "/shop/account/email/"


def refund_path(cart: Cart) -> str:
    return f"{order_path(cart)}refund/"


@pytest.fixture
def paid_cart(guest: Visitor, coffee: Product) -> Cart:
    cart = guest.fill_cart(coffee)
    guest.pay(cart)
    return cart


def test_double_click_refunds_once_and_a_second_tab_is_told(
    guest: Visitor, paid_cart: Cart, provider: CardProvider
) -> None:
    form, of_another_tab = (guest.fill_in(order_path(paid_cart)) for _ in range(2))

    answers = [guest.press(refund_path(paid_cart), form) for _ in range(2)]
    told = guest.press(refund_path(paid_cart), of_another_tab)

    assert [each.headers["Location"] for each in answers] == [order_path(paid_cart)] * 2
    page = guest.visit(told.headers["Location"]).content
    assert b"Nothing was paid back again" in page
    assert (Refund.objects.count(), len(provider.refunds)) == (1, 1)


def test_refund_that_another_request_is_making_is_refused(
    guest: Visitor, paid_cart: Cart, provider: CardProvider
) -> None:
    payment = paid_cart.orders.get().payment
    payment.reserved_by = paid_cart.token
    payment.save()

    refused = guest.press(refund_path(paid_cart), guest.fill_in(order_path(paid_cart)))

    assert (refused.status_code, provider.refunds) == (409, {})
    assert b"Another request is refunding this order" in refused.content


# The account


def test_double_click_changes_the_address_once(
    guest: Visitor,
    ann: User,
    mailbox: list[EmailMessage],
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    guest.sign_in_by_form()
    form = guest.fill_in(EMAIL, email="ann@new.example")

    with django_capture_on_commit_callbacks(execute=True):
        answers = [guest.press(EMAIL, form) for _ in range(2)]

    assert [each.headers["Location"] for each in answers] == [EMAIL] * 2
    assert EmailChange.objects.count() == 1
    assert [mail.to for mail in mailbox] == [["ann@new.example"]]


# The mails


def send(folder: Path, *subjects: str) -> None:
    backend = EmailBackend(file_path=str(folder))
    for subject in subjects:
        mail = EmailMessage(subject, "Grüße", "shop@shop.example", ["ann@example.com"])
        backend.send_messages([mail])
    backend.close()


def test_mails_are_read_as_the_backend_wrote_them(tmp_path: Path) -> None:
    send(tmp_path, "Käufe", "Second")
    send(tmp_path, "Third")

    mails = newest_mails(tmp_path, limit=10)

    assert {mail.subject for mail in mails} == {"Käufe", "Second", "Third"}
    assert {(mail.to, mail.body.strip()) for mail in mails} == {
        ("ann@example.com", "Grüße")
    }
    assert len(newest_mails(tmp_path, limit=2)) == 2


def test_outbox_shows_the_mails_only_where_it_is_opened(
    guest: Visitor, tmp_path: Path, settings: Any
) -> None:
    assert b"shows its mails to nobody" in guest.visit("/shop/outbox/").content
    settings.SHOP_OUTBOX = str(tmp_path)
    send(tmp_path, "Your order 7")

    page = guest.visit("/shop/outbox/").content.decode()

    assert re.search(r"<h2>Your order 7</h2>\s*<p[^>]*>to ann@example.com", page)
