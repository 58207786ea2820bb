"""Guests who sign in, sessions that expire: still one order for one cart."""

from __future__ import annotations

from example_project.demo.stage import Customer
from tests.browser.shop.books import Accounts, Books
from tests.browser.shop.shopper import Shopper

ONE_COFFEE = Accounts(orders=1, payments=1, charges=1, charged_minor=1250)


def test_guest_pays_and_others_don_t_see_the_order(
    shopper: Shopper, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")
    order = shopper.path
    assert books.so_far() == ONE_COFFEE

    shopper.open(f"/shop/orders/{books.last_order()}/")
    assert shopper.driver.title.startswith("Not Found")
    shopper.open(order)

    assert shopper.heading == f"Order {books.last_order()}"


def test_guest_who_signs_in_after_a_payment_makes_no_second_order(
    shopper: Shopper, books: Books, customer: Customer
) -> None:
    """The form is sent again by somebody else: another principal, another operation."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    checkout = shopper.driver.current_window_handle
    form = shopper.path
    shopper.driver.switch_to.new_window("tab")
    shopper.open(form)
    shopper.fill_in("email", "ann@example.com")
    shopper.press("Pay")
    order = shopper.path
    shopper.sign_in(customer)

    shopper.driver.switch_to.window(checkout)
    shopper.press("Pay")
    assert shopper.heading == "This page is out of date"
    shopper.press("Go on from here")

    assert shopper.path == order
    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE


def test_guest_who_signs_in_midway_pays_for_the_same_cart(
    shopper: Shopper, books: Books, customer: Customer
) -> None:
    shopper.go_to_checkout("Coffee")
    checkout = shopper.path
    shopper.press("Sign in")
    shopper.sign_in(customer)
    assert shopper.path == checkout

    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE


def test_order_that_was_taken_along_is_the_accounts_alone(
    shopper: Shopper, books: Books, customer: Customer
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")
    order = shopper.path
    shopper.sign_in(customer)
    shopper.open(order)
    assert shopper.heading == f"Order {books.last_order()}"

    shopper.driver.delete_all_cookies()
    shopper.open(order)

    assert shopper.heading == "Sign in"


def test_session_that_expires_before_paying_costs_a_sign_in_and_no_more(
    shopper: Shopper, books: Books, customer: Customer
) -> None:
    shopper.sign_in(customer)
    shopper.go_to_checkout("Coffee")
    checkout = shopper.path
    books.end_sessions()

    shopper.press("Pay")
    assert (shopper.heading, books.so_far()) == ("Sign in", Accounts())
    shopper.sign_in(customer)
    assert shopper.path == checkout
    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE


def test_session_that_expires_after_paying_makes_no_second_order(
    shopper: Shopper, books: Books, customer: Customer
) -> None:
    """The answer got lost, too: the customer signs in and finds that it is paid."""
    shopper.sign_in(customer)
    shopper.go_to_checkout("Coffee")
    shopper.press("Pay")
    shopper.leave_page(shopper.driver.back)
    books.end_sessions()

    shopper.press("Pay")
    shopper.sign_in(customer)

    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE


def test_guest_whose_session_expires_pays_all_the_same(
    shopper: Shopper, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    books.end_sessions()

    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE
