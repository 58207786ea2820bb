"""After paying: refunds, another e-mail address, and the mails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.mail import EmailMessage
from django.core.mail.backends.filebased import EmailBackend
from pytest_django import DjangoCaptureOnCommitCallbacks

from example_project.checkout.models import Cart, EmailChange, Product, Refund
from example_project.shop.outbox import newest_mails
from tests.example.providers import CardProvider
from tests.integration.browser import hidden_fields

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


def test_double_click_refunds_once(
    guest: Visitor, paid_cart: Cart, provider: CardProvider
) -> None:
    form = guest.fill_in(order_path(paid_cart))

    answers = [guest.press(refund_path(paid_cart), form) for _ in range(2)]

    assert [each.headers["Location"] for each in answers] == [order_path(paid_cart)] * 2
    assert (Refund.objects.count(), len(provider.refunds)) == (1, 1)


def test_refund_in_a_second_tab_is_told(
    guest: Visitor, paid_cart: Cart, provider: CardProvider
) -> None:
    forms = [guest.fill_in(order_path(paid_cart)) for _ in range(2)]

    told = [guest.press(refund_path(paid_cart), form) for form in forms][1]

    page = guest.visit(told.headers["Location"]).content
    assert b"Nothing was paid back again" in page
    assert len(provider.refunds) == 1


def test_refund_whose_answer_got_lost_is_sent_again(
    guest: Visitor, paid_cart: Cart, provider: CardProvider
) -> None:
    provider.answers_to_lose = 1
    lost = guest.press(refund_path(paid_cart), guest.fill_in(order_path(paid_cart)))

    again = guest.press(refund_path(paid_cart), hidden_fields(lost))

    assert (lost.status_code, again.status_code) == (503, 302)
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


def test_visit_to_the_refund_leads_to_the_order(
    guest: Visitor, paid_cart: Cart
) -> None:
    answer = guest.client.get(refund_path(paid_cart))

    assert answer.headers["Location"] == order_path(paid_cart)


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


def test_address_with_an_error_can_be_corrected(guest: Visitor, ann: User) -> None:
    guest.sign_in_by_form()
    refused = guest.press(EMAIL, guest.fill_in(EMAIL, email="nowhere"))

    form = {**hidden_fields(refused), "email": "ann@new.example"}

    assert (refused.status_code, guest.press(EMAIL, form).status_code) == (400, 302)


def test_guest_signs_in_before_changing_an_address(guest: Visitor) -> None:
    answer = guest.client.get(EMAIL)

    assert answer.headers["Location"] == f"/accounts/login/?next={EMAIL}"


def test_replay_in_another_browser_shows_no_message_and_a_form_that_works(
    ann: User, provider: CardProvider
) -> None:
    """FR-069: the pages answer with a redirect, and what it leads to is rendered anew."""
    browsers = [Visitor(), Visitor()]
    for each in browsers:
        each.sign_in_by_form()
    form = browsers[0].fill_in(EMAIL, email="ann@new.example")
    browsers[0].press(EMAIL, form)
    own_token = hidden_fields(browsers[1].visit(EMAIL))["csrfmiddlewaretoken"]

    replay = browsers[1].press(EMAIL, {**form, "csrfmiddlewaretoken": own_token})
    page = browsers[1].visit(replay.headers["Location"])
    sent = browsers[1].press(
        EMAIL, {**hidden_fields(page), "email": "ann@newest.example"}
    )

    assert replay.headers["Idempotency-Replayed"] == "true"
    assert b"We have sent a confirmation" not in page.content
    assert b"ann@new.example" in page.content
    assert sent.status_code == 302


def test_message_is_shown_once(guest: Visitor, ann: User) -> None:
    """FR-069: in the browser that made the change, and on its next page only."""
    guest.sign_in_by_form()
    form = guest.fill_in(EMAIL, email="ann@new.example")
    guest.press(EMAIL, form)

    pages = [guest.visit(EMAIL).content]
    guest.press(EMAIL, form)
    pages.append(guest.visit(EMAIL).content)

    assert [b"We have sent a confirmation" in page for page in pages] == [True, False]


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


def test_no_more_mails_are_shown_than_wanted(tmp_path: Path) -> None:
    send(tmp_path, "One", "Two", "Three")

    assert len(newest_mails(tmp_path, limit=2)) == 2


def test_outbox_shows_the_mails(
    guest: Visitor, tmp_path: Path, settings: object
) -> None:
    settings.SHOP_OUTBOX = str(tmp_path)  # type: ignore[attr-defined]
    send(tmp_path, "Your order 7")

    page = guest.visit("/shop/outbox/").content.decode()

    assert re.search(r"<h2>Your order 7</h2>\s*<p[^>]*>to ann@example.com", page)


def test_outbox_is_closed_by_default(guest: Visitor) -> None:
    assert b"shows its mails to nobody" in guest.visit("/shop/outbox/").content
