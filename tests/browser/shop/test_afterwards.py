"""Refunds and changes of the account, each asked for twice."""

from __future__ import annotations

import uuid

from example_project.demo.stage import Customer
from tests.browser.chromium import until
from tests.browser.shop.books import Accounts, Books
from tests.browser.shop.shopper import Shopper
from tests.browser.shop.wire import Wire


def test_refund_that_is_double_clicked_is_made_once(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")
    wire.answer_seconds = 0.5

    shopper.press_twice("Give me")

    assert "12.50 EUR went back to your card" in shopper.text
    assert wire.answers("/refund/") == [(302, False), (302, True)]
    assert books.so_far() == Accounts(
        orders=1,
        payments=1,
        refunds=1,
        charges=1,
        charged_minor=1250,
        money_back=1,
    )


def test_refund_in_a_second_tab_is_told_that_it_was_made(
    shopper: Shopper, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")
    order, first = shopper.path, shopper.driver.current_window_handle
    shopper.driver.switch_to.new_window("tab")
    shopper.open(order)
    shopper.press("Give me")

    shopper.driver.switch_to.window(first)
    shopper.press("Give me")

    assert "Nothing was paid back again" in shopper.text
    assert (books.so_far().refunds, books.so_far().money_back) == (1, 1)


def test_address_that_is_double_clicked_is_changed_and_confirmed_once(
    shopper: Shopper, wire: Wire, books: Books, customer: Customer
) -> None:
    """FR-069: whether the message was seen or not, the page says what is true."""
    address = f"{uuid.uuid4().hex}@example.com"
    shopper.sign_in(customer)
    shopper.open("/shop/account/email/")
    shopper.fill_in("email", address)
    wire.answer_seconds = 0.5

    shopper.press_twice("Change it")

    assert f"We write to {address}" in shopper.text
    assert wire.answers("/email/") == [(302, False), (302, True)]
    until(shopper.driver, lambda _: wire.is_quiet())
    assert books.so_far() == Accounts(email_changes=1)
    shopper.open("/shop/outbox/")
    assert shopper.text.count(address) == 1


def test_clicks_with_keys_of_their_own_change_the_address_twice(
    shopper: Shopper, wire: Wire, books: Books, customer: Customer
) -> None:
    """The control: what the keys keep off is there, and it is counted."""
    address = f"{uuid.uuid4().hex}@example.com"
    shopper.sign_in(customer)
    shopper.open("/shop/account/email/")
    shopper.fill_in("email", address)
    wire.answer_seconds = 0.5
    shopper.run(
        "const key = document.querySelector('[name=idempotency_key]');"
        "key.form.addEventListener('submit', () => { key.value = crypto.randomUUID() })"
    )

    shopper.press_twice("Change it")

    until(shopper.driver, lambda _: wire.is_quiet())
    assert books.so_far() == Accounts(email_changes=2)
    shopper.open("/shop/outbox/")
    assert shopper.text.count(address) == 2


def test_receipt_of_a_double_clicked_order_is_in_the_outbox_once(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    address = f"{uuid.uuid4().hex}@example.com"
    shopper.go_to_checkout("Coffee", email=address)
    wire.answer_seconds = 0.5
    shopper.press_twice("Pay")
    until(shopper.driver, lambda _: wire.is_quiet())

    shopper.open("/shop/outbox/")

    assert shopper.text.count(address) == 1
    assert f"Your order {books.last_order()}\n" in shopper.text
