"""One cart, paid by somebody who is impatient, unlucky or forgetful: one order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from example_project.theatre.demo.stage import Customer
from tests.browser.chromium import PATIENCE_SECONDS, offline, until
from tests.browser.shop.books import ONE_COFFEE, Accounts, Books
from tests.browser.shop.shopper import Shopper
from tests.browser.shop.wire import Wire

if TYPE_CHECKING:
    from tests.browser.conftest import OpenChromium


def at_rest(shopper: Shopper, wire: Wire, books: Books) -> Accounts:
    """What came of it, once the shop has answered also what nobody waits for."""
    until(shopper.driver, lambda _: wire.is_quiet())
    return books.so_far()


def payments(wire: Wire) -> list[tuple[int | None, bool]]:
    return wire.answers("/checkout/")


def require_one_order(
    shopper: Shopper,
    wire: Wire,
    books: Books,
    answers: list[tuple[int | None, bool]] | None = None,
) -> None:
    """The page shows it, and the payments were answered so, whichever came first."""
    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert shopper.heading == f"Order {books.last_order()}"
    assert answers in (None, sorted(payments(wire)))


def test_double_click_is_one_order_and_one_charge(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112: both POSTs lead to the same confirmation page."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    wire.answer_seconds = 0.5

    shopper.press_twice("Pay")

    require_one_order(shopper, wire, books, [(302, False), (302, True)])


def test_back_leads_to_the_order_that_was_made(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112: no browser keeps a page with a key, so that it is asked for anew."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")

    shopper.leave_page(shopper.driver.back)

    require_one_order(shopper, wire, books, [(302, False)])


def pay_and_stop(shopper: Shopper, wire: Wire) -> None:
    """Pay and press Stop before the answer is there: the form is still on the screen."""
    wire.answer_seconds = 1
    shopper.run("setTimeout(() => window.stop(), 300)")
    shopper.button("Pay").click()
    until(shopper.driver, lambda _: payments(wire))
    assert shopper.heading == "Checkout"


def test_paying_again_with_other_entries_changes_nothing(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    pay_and_stop(shopper, wire)
    shopper.fill_in("email", "ben@example.com")

    shopper.press("Pay")
    assert shopper.heading == "You have sent this form before"
    shopper.press("See how things stand")

    require_one_order(shopper, wire, books)


def test_browser_that_resends_by_itself_pays_once(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """Chromium does so when a connection that it has used before ends too early."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    wire.answers_to_lose = 1

    shopper.press("Pay")

    require_one_order(shopper, wire, books, [(302, False), (302, True)])


def test_reload_after_a_lost_answer_leads_to_the_order_that_was_made(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """The line is cut while the shop is at work, and stays so until Chromium gives up."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    cut_while(shopper, wire, lambda: shopper.button("Pay").click())
    order = books.last_order()

    shopper.leave_page(shopper.driver.refresh)

    assert shopper.heading == f"Order {order}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert payments(wire)[0] == (302, False)
    assert set(payments(wire)[1:]) == {(302, True)}


def cut_while(shopper: Shopper, wire: Wire, act: Callable[[], object]) -> None:
    wire.answers_to_lose = 100
    act()
    until(shopper.driver, lambda driver: "ERR_EMPTY_RESPONSE" in driver.page_source)
    wire.answers_to_lose = 0


def test_browser_that_went_offline_pays_when_it_is_back(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    checkout = shopper.path
    offline(shopper.driver, True)
    shopper.button("Pay").click()
    until(shopper.driver, lambda driver: "ERR_INTERNET" in driver.page_source)
    assert at_rest(shopper, wire, books) == Accounts()

    offline(shopper.driver, False)
    shopper.open(checkout)
    shopper.fill_in("email", "ann@example.com")
    shopper.press("Pay")

    require_one_order(shopper, wire, books)


def test_two_browsers_that_pay_one_cart_in_the_same_instant_pay_once(
    shopper: Shopper, chromium: OpenChromium, wire: Wire, books: Books
) -> None:
    """The second comes while the first is at the bank, and is refused before that."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    with chromium() as driver:
        other = Shopper(driver, shopper.shop_url)
        other.open(shopper.path)
        other.fill_in("email", "ben@example.com")
        barrier = threading.Barrier(2, timeout=PATIENCE_SECONDS)

        def pay(who: Shopper) -> str:
            barrier.wait()
            who.press("Pay")
            return who.text

        with ThreadPoolExecutor(2) as pool:
            shown = list(pool.map(pay, [shopper, other]))

    assert sum("Nothing was charged again" in each for each in shown) == 1
    assert [f"Order {books.last_order()}\n" in each for each in shown] == [True, True]
    assert payments(wire) == [(302, False), (302, False)]
    assert at_rest(shopper, wire, books) == ONE_COFFEE


def test_customer_who_stops_the_page_and_pays_again_pays_once(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112: the form has its old key."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    pay_and_stop(shopper, wire)

    shopper.press("Pay")

    require_one_order(shopper, wire, books, [(302, False), (302, True)])


def test_session_that_expires_after_paying_makes_no_second_order(
    shopper: Shopper, wire: Wire, books: Books, customer: Customer
) -> None:
    """The answer got lost, too: the customer signs in and finds that it is paid."""
    shopper.sign_in(customer)
    shopper.go_to_checkout("Coffee")
    pay_and_stop(shopper, wire)
    books.end_sessions()

    shopper.press("Pay")
    shopper.sign_in(customer)

    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE
