"""Confirmation mails: one each, and none of them fails what it confirms."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.core.mail.backends.locmem import EmailBackend
from django.core.management import call_command
from django.db import connection

from example_project.checkout.models import EmailChange, Order
from example_project.checkout.receipts import send_receipt
from tests.example.conftest import Customer, new_customer

if TYPE_CHECKING:
    from django.core.mail import EmailMessage

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("example_project.urls"),
    pytest.mark.usefixtures("provider"),
]


@pytest.fixture
def ada(door: str) -> Customer:
    return new_customer("ada", door)


@pytest.fixture
def mail_server_down(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    def refuse(*args: Any) -> int:
        raise ConnectionRefusedError("The mail server is down.")

    monkeypatch.setattr(EmailBackend, "send_messages", refuse)
    return monkeypatch


def test_order_is_confirmed_once(ada: Customer, mailbox: list[EmailMessage]) -> None:
    """Also where the task is delivered again."""
    cart = ada.new_cart()
    answers = [ada.pay(cart, key="k") for _ in range(2)]
    send_receipt(ada.order_in(answers[0]))

    (message,) = mailbox
    assert message.to == ["ada@example.com"]
    assert "25.00 EUR" in str(message.body)


def test_mail_never_fails_the_order(
    ada: Customer,
    mailbox: list[EmailMessage],
    mail_server_down: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Field report FR-029, and the mail is made good."""
    cart = ada.new_cart()
    with caplog.at_level(logging.CRITICAL, logger="django"):
        assert [ada.pay(cart, key="k").status_code for _ in range(2)] == [201, 201]
    assert (Order.objects.count(), len(mailbox)) == (1, 0)
    mail_server_down.undo()

    for _ in range(2):
        call_command("send_receipts")

    assert len(mailbox) == 1


def test_lost_confirmation_of_an_address_is_made_good(
    ada: Customer, mailbox: list[EmailMessage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process had been killed right after the commit."""
    with monkeypatch.context() as killed:
        killed.setattr(connection, "run_and_clear_commit_hooks", lambda: None)
        change_email(ada, "new@example.com", key="k")
    connection.run_on_commit.clear()
    assert mailbox == []

    for _ in range(2):
        call_command("send_receipts")

    assert [message.to for message in mailbox] == [["new@example.com"]]


def test_one_receipt_that_fails_keeps_back_no_other_and_is_not_taken_for_sent(
    mail_server_down: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada = new_customer("ada", "view")
    orders = [ada.order_in(ada.pay(ada.new_cart())) for _ in range(2)]
    caplog.clear()

    call_command("send_receipts")

    errors = [record for record in caplog.records if "The receipt" in record.message]
    assert len(errors) == 2
    for order in orders:
        with pytest.raises(ConnectionRefusedError):
            send_receipt(order)


def test_customer_without_address_gets_no_mail(mailbox: list[EmailMessage]) -> None:
    ada = new_customer("ada", "leased")
    User.objects.update(email="")

    assert ada.pay(ada.new_cart()).status_code == 201
    assert mailbox == []


def test_new_address_is_confirmed_once(mailbox: list[EmailMessage]) -> None:
    ada = new_customer("ada", "view")

    answers = [change_email(ada, "new@example.com", key="k") for _ in range(2)]

    assert [answer.json() for answer in answers] == [{"email": "new@example.com"}] * 2
    change = EmailChange.objects.get()
    assert (change.old, change.new) == ("ada@example.com", "new@example.com")
    assert User.objects.get().email == "new@example.com"
    assert [message.to for message in mailbox] == [["new@example.com"]]


def test_address_that_is_none_changes_nothing(mailbox: list[EmailMessage]) -> None:
    ada = new_customer("ada", "view")

    assert change_email(ada, "nowhere", key="k").status_code == 400
    assert User.objects.get().email == "ada@example.com"
    assert mailbox == []


def change_email(customer: Customer, email: str, *, key: str) -> Any:
    return customer.http.post(
        "/account/email/", {"email": email}, headers={"Idempotency-Key": key}
    )
