"""Changes of the account that are asked for twice."""

import uuid

from example_project.theatre.demo.stage import Customer
from tests.browser.chromium import until
from tests.browser.shop.books import Accounts, Books
from tests.browser.shop.shopper import Shopper
from tests.browser.shop.wire import Wire
from tests.support.cases import cases

OWN_KEYS = """
const key = document.querySelector("[name=idempotency_key]");
key.form.addEventListener("submit", () => { key.value = crypto.randomUUID() });
"""


@cases(
    "script, changes, is_replay",
    {"one key": ("", 1, True), "control: a key for each click": (OWN_KEYS, 2, False)},
)
def test_address_that_is_double_clicked_is_changed_and_confirmed_once(
    shopper: Shopper,
    wire: Wire,
    books: Books,
    customer: Customer,
    script: str,
    changes: int,
    is_replay: bool,
) -> None:
    """FR-069: whether the message was seen or not, the page says what is true."""
    address = f"{uuid.uuid4().hex}@example.com"
    shopper.sign_in(customer)
    shopper.open("/shop/account/email/")
    shopper.fill_in("email", address)
    wire.answer_seconds = 0.5
    shopper.run(script)

    shopper.press_twice("Change it")

    assert f"We write to {address}" in shopper.text
    until(shopper.driver, lambda _: wire.is_quiet())
    assert sorted(wire.answers("/email/")) == [(302, False), (302, is_replay)]
    assert books.so_far() == Accounts(email_changes=changes)
    shopper.open("/shop/outbox/")
    assert shopper.text.count(address) == changes
