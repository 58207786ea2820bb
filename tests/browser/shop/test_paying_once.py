"""One cart, paid by somebody who is impatient, unlucky or forgetful: one order."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.browser.chromium import PATIENCE_SECONDS, until
from tests.browser.shop.books import Accounts, Books
from tests.browser.shop.shopper import DECLINED_CARD, GOOD_CARD, Shopper
from tests.browser.shop.wire import Wire

if TYPE_CHECKING:
    from tests.browser.conftest import OpenChromium

ONE_COFFEE = Accounts(orders=1, payments=1, charges=1, charged_minor=1250)


def at_rest(shopper: Shopper, wire: Wire, books: Books) -> Accounts:
    """What came of it, once the shop has answered also what nobody waits for."""
    until(shopper.driver, lambda _: wire.is_quiet())
    return books.so_far()


def payments(wire: Wire) -> list[tuple[int | None, bool]]:
    return wire.answers("/checkout/")


def test_double_click_is_one_order_and_one_charge(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112: both POSTs lead to the same confirmation page."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    wire.answer_seconds = 0.5

    shopper.press_twice("Pay")

    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert shopper.heading == f"Order {books.last_order()}"
    assert sorted(payments(wire)) == [(302, False), (302, True)]


def test_reload_of_the_order_page_orders_nothing(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")

    shopper.leave_page(shopper.driver.refresh)

    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert shopper.heading == f"Order {books.last_order()}"


def test_back_and_pay_again_leads_to_the_same_order(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112: the form that the back button brings has its old key."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    key = shopper.key
    shopper.press("Pay")
    order = shopper.driver.current_url

    shopper.leave_page(shopper.driver.back)
    assert (shopper.heading, shopper.key) == ("Checkout", key)
    shopper.press("Pay")

    assert shopper.driver.current_url == order
    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert payments(wire) == [(302, False), (302, True)]


def test_back_and_pay_with_another_cart_is_another_order(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """FR-112: a new visit to the form gets a new key."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    first_key = shopper.key
    shopper.press("Pay")
    shopper.leave_page(shopper.driver.back)

    shopper.go_to_checkout("Mug", email="ann@example.com")
    second_key = shopper.key
    shopper.press("Pay")

    assert second_key != first_key
    assert at_rest(shopper, wire, books) == Accounts(
        orders=2, payments=2, charges=2, charged_minor=1250 + 900
    )


def test_back_and_pay_with_other_entries_changes_nothing(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.press("Pay")
    shopper.leave_page(shopper.driver.back)
    shopper.fill_in("email", "ben@example.com")

    shopper.press("Pay")
    assert shopper.heading == "You have sent this form before"
    shopper.press("See how things stand")

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE


def test_browser_that_resends_by_itself_pays_once(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    """Chromium does so when a connection that it has used before ends too early."""
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    wire.answers_to_lose = 1

    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert payments(wire) == [(302, False), (302, True)]


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


def test_customer_who_comes_back_after_a_lost_answer_finds_the_order(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    checkout = shopper.path
    cut_while(shopper, wire, lambda: shopper.button("Pay").click())

    shopper.open(checkout)

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE


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
    be_offline(shopper, True)
    shopper.button("Pay").click()
    until(shopper.driver, lambda driver: "ERR_INTERNET" in driver.page_source)
    assert at_rest(shopper, wire, books) == Accounts()

    be_offline(shopper, False)
    shopper.open(checkout)
    shopper.fill_in("email", "ann@example.com")
    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE


def be_offline(shopper: Shopper, is_offline: bool) -> None:
    shopper.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {
            "offline": is_offline,
            "latency": 0,
            "downloadThroughput": -1,
            "uploadThroughput": -1,
        },
    )


def test_second_tab_is_told_that_the_cart_is_paid(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    checkout, first = shopper.path, shopper.driver.current_window_handle
    shopper.driver.switch_to.new_window("tab")
    shopper.open(checkout)
    shopper.fill_in("email", "ann@example.com")
    second = shopper.driver.current_window_handle
    shopper.driver.switch_to.window(first)
    shopper.press("Pay")

    shopper.driver.switch_to.window(second)
    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert "Nothing was charged again" in shopper.text
    assert at_rest(shopper, wire, books) == ONE_COFFEE


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


def test_form_that_was_corrected_pays(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="nowhere")
    key = shopper.key
    shopper.press("Pay")
    assert "Enter a valid email address" in shopper.text
    assert shopper.key != key

    shopper.fill_in("email", "ann@example.com")
    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE


def test_another_card_pays_after_one_was_declined(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    shopper.choose_card(DECLINED_CARD)
    wire.answer_seconds = 0.5
    shopper.press_twice("Pay")
    assert "The bank declined the card" in shopper.text
    assert at_rest(shopper, wire, books) == Accounts()

    shopper.choose_card(GOOD_CARD)
    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert payments(wire) == [(402, False), (402, True), (302, False)]


def test_customer_who_stops_the_page_and_pays_again_pays_once(
    shopper: Shopper, wire: Wire, books: Books
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    wire.answer_seconds = 1
    shopper.run("setTimeout(() => window.stop(), 300)")
    shopper.button("Pay").click()
    until(shopper.driver, lambda _: payments(wire))
    assert shopper.heading == "Checkout"

    shopper.press("Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert at_rest(shopper, wire, books) == ONE_COFFEE
    assert payments(wire) == [(302, False), (302, True)]
