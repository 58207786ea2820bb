"""What somebody of the staff has to do on the first day, in at most three clicks each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webdriver import WebDriver

from django_idempotency.models import IdempotencyRecord
from tests.browser.chromium import press, until
from tests.browser.front import shop, traffic
from tests.browser.front.conftest import FRONT
from tests.support.cases import cases

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

MOST_CLICKS = 3


@dataclass
class Newcomer:
    """Begins at the app's front page, and gives up after the third click."""

    driver: WebDriver
    clicks: int = 0

    def click(self, text: str) -> None:
        """Click what has these words on it: a link or a button."""
        self._counted()
        words = f"contains(normalize-space(), '{text}')"
        found = self.driver.find_elements(
            By.XPATH,
            f"//*[@id='content' or @id='main']//*[self::a or self::button][{words}]",
        )
        shown = [each for each in found if each.is_displayed()]
        assert shown, f"Nothing to click says {text!r}: {self.page}"
        before = self._page_now()
        press(self.driver, shown[0])
        until(self.driver, lambda _: self._page_now() != before)

    def search(self, term: str) -> None:
        """Type into the search field, and Enter: one click."""
        self._counted()
        (field,) = self.driver.find_elements(
            By.CSS_SELECTOR, "#content input[type=search]"
        )
        before = self._page_now()
        field.send_keys(term, Keys.ENTER)
        until(self.driver, lambda _: self._page_now() != before)

    def fill(self, **fields: str) -> None:
        """Type: no click."""
        for name, text in fields.items():
            self.driver.find_element(By.NAME, name).send_keys(text)

    @property
    def page(self) -> str:
        return self.driver.find_element(By.ID, "content").text

    def _page_now(self) -> Any:
        """The loaded document: another one after each click."""
        ready = "return document.readyState === 'complete' && performance.timeOrigin"
        return self.driver.execute_script(ready) or None

    def _counted(self) -> None:
        self.clicks += 1
        assert self.clicks <= MOST_CLICKS, f"More than {MOST_CLICKS} clicks."


@pytest.fixture
def day(staff: WebDriver) -> Any:
    shop.known_charges.clear()
    return traffic.make()


@pytest.fixture
def newcomer(staff: WebDriver, served: str, day: Any) -> Newcomer:
    staff.get(served + FRONT)
    return Newcomer(staff)


@cases(
    "term, then",
    {
        "charge id": ("ch_{cart}", ["POST /pay/"]),
        "payment id": ("pi_{cart}", []),
        "the client's key": ("{0.key}", []),
        "reference": ("{0.reference}", []),
        "order": ("cart {cart}", ["Payment of"]),
        "customer": ("ada", ["Payment of 46.82 EUR"]),
    },
)
@pytest.mark.parametrize("browser", ["phone", "desktop"], indirect=True)
def test_payment_is_found(
    term: str, then: list[str], newcomer: Newcomer, day: Any
) -> None:
    record = day[0]["kept"]
    cart = sorted(traffic.OPERATIONS).index("kept")
    newcomer.search(term.format(record, cart=cart))
    for text in then:
        newcomer.click(text)

    assert "Payment of 46.82 EUR by ada" in newcomer.page
    if "ada" not in term:
        assert record.reference in newcomer.page
        assert "A repeat got the first answer again (201)." in newcomer.page
        assert "The key came with other content" in newcomer.page


@pytest.mark.parametrize("name", sorted(traffic.OPERATIONS))
def test_what_became_of_an_operation_is_told(
    name: str, newcomer: Newcomer, day: Any
) -> None:
    """In each state, with a badge and a sentence."""
    newcomer.search(day[0][name].reference)
    story = newcomer.page

    for told in TOLD[name]:
        assert told in story


TOLD = {
    "kept": ("done once", "Done once."),
    "refused": ("refused: 402", "Step charge refused"),
    "failed": ("not done: free for a retry", "LookupError"),
    "running": ("running", "It is running at this moment."),
    "stopped": ("worker gone", "Not finished: its worker is gone."),
    "held": ("held: needs a person", "Whether “charge” happened is not known."),
    "held by its worker": ("held: needs a person", "the lease ended"),
    "held without a call": ("held: needs a person", "what of it is done is not known"),
    "settled by a person": (
        "settled: waits for the retry",
        "grace found out that the call has not happened. not in the bank's list",
    ),
    "settled by the provider": (
        "settled: waits for the retry",
        "The provider's event said that the call has happened.",
    ),
    "forgotten": ("done once", "nobody has its answer", "grace let the answer be"),
    "erased": ("done once", "was erased"),
}


@pytest.mark.parametrize("applied", [False, True])
def test_held_payment_is_settled(applied: bool, newcomer: Newcomer, day: Any) -> None:
    held = day[0]["held"]
    IdempotencyRecord.objects.held().exclude(pk=held.pk).delete()
    newcomer.driver.refresh()
    newcomer.click("Find out and settle")
    newcomer.click("It is there" if applied else "It is not there")
    newcomer.fill(reason="seen in the bank's list")
    if applied:
        newcomer.fill(**{"result-id": "ch_0"})
    newcomer.click("It is there" if applied else "It is not there")

    end = "goes on after it" if applied else "the next repeat makes it"
    assert end in newcomer.page
    assert IdempotencyRecord.objects.get(pk=held.pk).state == "released"


def test_what_happened_to_a_held_one_is_told(newcomer: Newcomer, day: Any) -> None:
    IdempotencyRecord.objects.held().exclude(pk=day[0]["held"].pk).delete()
    newcomer.driver.refresh()
    assert "“charge”: TimeoutError" in newcomer.page  # without a click
    newcomer.click("Find out and settle")

    for told in (
        "First request, key claimed.",
        "what became of its call is unknown: held. TimeoutError",
        "was told that the outcome is not known yet (409)",
        "Look at the provider's list for “charge”: pi_",
    ):
        assert told in newcomer.page


def test_why_an_event_died_is_told(newcomer: Newcomer) -> None:
    assert "no order has the charge ch_90" in newcomer.page  # without a click
    newcomer.click("Look and run again")

    assert "Given up: nothing of it was done." in newcomer.page
    assert "The last attempt failed:" in newcomer.page


def test_event_is_run_again(newcomer: Newcomer, day: Any) -> None:
    shop.known_charges.add("ch_90")
    newcomer.click("Look and run again")
    newcomer.click("Run it again")
    newcomer.fill(reason="the order was imported")
    newcomer.click("Run it again")

    assert "Its handler has run." in newcomer.page
    dead = day[1]["dead"]
    dead.refresh_from_db()
    assert dead.state == "processed"


def test_day_has_each_state(day: Any) -> None:
    operations, events = day

    assert (set(operations), set(events)) == (traffic.OPERATIONS, traffic.EVENTS)
    assert {each.state for each in operations.values()} == {
        *("kept", "held", "released", "in_flight"),
    }
    assert operations["kept"].replays == 2


def test_fourth_click_is_refused(newcomer: Newcomer) -> None:
    """The control."""
    newcomer.clicks = MOST_CLICKS

    with pytest.raises(AssertionError, match="More than 3 clicks"):
        newcomer.click("Find out and settle")
