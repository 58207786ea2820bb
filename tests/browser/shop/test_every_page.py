"""All the pages, for everybody: at any width, by keyboard, without JavaScript."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver import Keys

from example_project.theatre.demo.stage import Customer, Stage
from tests.browser.chromium import violations
from tests.browser.shop.books import ONE_COFFEE, Books
from tests.browser.shop.shopper import DECLINED_CARD, GOOD_CARD, Shopper
from tests.browser.shop.wire import Wire

if TYPE_CHECKING:
    from tests.browser.conftest import OpenChromium


LONG_EMAIL = f"{'anna' * 15}@example.com"


@pytest.mark.timeout(300)  # twenty pages, each of which axe goes through
@pytest.mark.parametrize("browser", ["phone", "desktop"], indirect=True)
def test_no_page_is_barred_to_anybody(shopper: Shopper, customer: Customer) -> None:
    """By the rules of axe, contrast included; none is wider than the window, and the
    browser has no complaints, such as of the content security policy."""
    found = {
        page: faults
        for page in walk_through(shopper, customer)
        if (faults := faults_of(shopper))
    }

    assert found == {}


def walk_through(shopper: Shopper, customer: Customer) -> Iterator[str]:
    """Yields the name of each page when it is open."""
    shopper.open("/shop/cart/")
    yield "empty cart"
    shopper.open("/shop/")
    yield "products"
    shopper.fill_cart("Coffee", "Mug")
    yield "cart"
    shopper.fill_in("quantity", "-1")
    shopper.press("Update")
    yield "cart with an error"
    shopper.open("/shop/cart/")
    shopper.press("Go to checkout")
    yield "checkout"
    shopper.press("Pay")
    yield "checkout with an error"
    shopper.fill_in("email", "ann@example.com")
    shopper.choose_card(DECLINED_CARD)
    shopper.press("Pay")
    yield "checkout with a declined card"
    shopper.choose_card(GOOD_CARD)
    shopper.press("Pay")
    yield "order"
    order = shopper.path
    shopper.open(f"{order}?already=paid")
    yield "order that was paid before"
    shopper.press("Give me")
    yield "order that is refunded"
    shopper.open("/shop/outbox/")
    yield "outbox"
    shopper.open("/accounts/login/")
    yield "sign in"
    shopper.press("Sign in")
    yield "sign in with an error"
    shopper.sign_in(customer)
    shopper.open("/shop/account/email/")
    yield "e-mail"
    shopper.press("Change it")
    yield "e-mail with an error"
    shopper.fill_in("email", LONG_EMAIL)
    key = shopper.key
    shopper.press("Change it")
    yield "e-mail that was changed"
    shopper.open("/shop/account/email/")
    yield "e-mail with a long address"
    set_key(shopper, key)
    shopper.fill_in("email", "anna@example.com")
    shopper.press("Change it")
    yield "form that was sent before"
    shopper.open("/shop/account/email/")
    set_key(shopper, "")
    shopper.press("Change it")
    yield "form without a key"
    shopper.open("/shop/account/email/")
    shopper.driver.delete_cookie("csrftoken")
    shopper.press("Change it")
    yield "form that is out of date"


def set_key(shopper: Shopper, key: str | None) -> None:
    field = shopper.find("main [name=idempotency_key]")
    shopper.run("arguments[0].value = arguments[1]", field, key)


def faults_of(shopper: Shopper) -> list[str]:
    wide, narrow = shopper.run(
        # Not innerWidth, which grows with what is too wide for a phone.
        "const { scrollWidth, clientWidth } = document.documentElement;"
        "return [scrollWidth, clientWidth]"
    )
    too_wide = [f"{wide} pixels wide"] if wide > narrow else []
    return violations(shopper.driver) + too_wide + shopper.complaints()


@pytest.mark.parametrize("browser", ["phone"], indirect=True)
def test_page_that_is_too_wide_is_found(shopper: Shopper) -> None:
    """The control: taps would miss what is on it."""
    shopper.open("/shop/")

    shopper.run("document.querySelector('h1').style.width = '500px'")

    assert any("pixels wide" in fault for fault in faults_of(shopper))


def test_page_that_bars_somebody_is_found(shopper: Shopper) -> None:
    """The control: of a field without a label, for example."""
    shopper.go_to_checkout("Coffee")

    shopper.run("document.querySelector('label[for=id_email]').remove()")

    assert "label" in [fault.split(":")[0] for fault in faults_of(shopper)]


def test_policy_stops_what_is_not_in_a_file_of_the_shops(shopper: Shopper) -> None:
    """The control: the browser complains, and the test above would show it."""
    shopper.open("/shop/")

    shopper.run(
        "document.body.insertAdjacentHTML('beforeend', '<style>h1{color:red}</style>');"
        "document.body.setAttribute('onclick', 'window.wasRun = true');"
        "document.body.click()"
    )

    assert shopper.run("return window.wasRun") is None
    complaints = shopper.complaints()
    assert ["Content Security Policy" in each for each in complaints] == [True, True]


def test_admin_keeps_to_the_policy(
    shopper: Shopper, books: Books, stage: Stage
) -> None:
    staff = stage.customers[1]
    books.make_staff(staff)
    shopper.sign_in(staff)

    for path in ("", "checkout/cart/", "checkout/product/add/", "auth/user/add/"):
        shopper.open(f"/admin/{path}")
        assert shopper.find("#site-name").text == "Django administration"

    # Of other things, what Django's own pages say is Django's business.
    complaints = shopper.complaints()
    assert [each for each in complaints if "Content Security Policy" in each] == []


def test_keyboard_is_enough_to_pay(shopper: Shopper, books: Books) -> None:
    shopper.open("/shop/")
    press(shopper, "Add to cart Coffee")
    press(shopper, "Go to checkout")
    shopper.tab_to("E-mail address")
    shopper.press_key("ann@example.com")
    card = shopper.tab_to("Visa ending in 4242")
    assert outline_of(shopper, card) != "none"
    press(shopper, "Pay")

    assert shopper.heading == f"Order {books.last_order()}"
    assert books.so_far() == ONE_COFFEE


def press(shopper: Shopper, words: str) -> None:
    reached = shopper.tab_to(words)
    assert outline_of(shopper, reached) != "none"
    shopper.leave_page(lambda: shopper.press_key(Keys.ENTER))


def outline_of(shopper: Shopper, element: object) -> str:
    return str(
        shopper.run("return getComputedStyle(arguments[0]).outlineStyle", element)
    )


def test_keyboard_reaches_the_error_first(shopper: Shopper) -> None:
    """The summary has the focus, and its links lead to the fields."""
    shopper.go_to_checkout("Coffee")
    shopper.press("Pay")

    assert shopper.driver.switch_to.active_element.get_attribute("role") == "alert"
    shopper.press_key(Keys.TAB, Keys.ENTER)

    assert shopper.driver.switch_to.active_element.get_attribute("name") == "email"


def test_content_can_be_skipped_to(shopper: Shopper) -> None:
    shopper.open("/shop/")

    shopper.press_key(Keys.TAB, Keys.ENTER)

    assert shopper.driver.switch_to.active_element.tag_name == "main"


def test_shop_works_without_javascript(
    chromium: OpenChromium, wire: Wire, books: Books
) -> None:
    switched_off = "--blink-settings=scriptEnabled=false"
    with wire.open() as shop_url, chromium(switched_off) as driver:
        shopper = Shopper(driver, shop_url)
        shopper.go_to_checkout("Coffee", email="nowhere")
        shopper.press("Pay")
        shopper.fill_in("email", "ann@example.com")
        shopper.press("Pay")
        assert shopper.heading == f"Order {books.last_order()}"
        assert books.so_far() == ONE_COFFEE

        shopper.press("Give me")
        assert "went back to your card" in shopper.text


def test_button_says_that_it_was_pressed_and_can_be_pressed_again(
    shopper: Shopper, wire: Wire
) -> None:
    shopper.go_to_checkout("Coffee", email="ann@example.com")
    wire.answer_seconds = 2
    shopper.run(
        "const button = document.querySelector('.wide');"
        "button.form.addEventListener('submit', () => setTimeout(() => {"
        "  window.name = JSON.stringify([button.disabled, 'busy' in button.dataset,"
        "    document.querySelector('[data-progress]').textContent]); }))"
    )

    shopper.press("Pay")

    assert shopper.run("return JSON.parse(window.name)") == [False, True, "Sending…"]
