"""Every button of the lab: what the page says is what has happened."""

import re

import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys

from example_project.theatre.lab.stories import STORIES
from tests.browser.chromium import until

from .books import Books, Counts
from .pages import LabPage, Side, Storm, minor

pytestmark = pytest.mark.timeout(300)


def shown(side: Side) -> Counts:
    counts = side.counts
    return Counts(
        charged_minor=minor(counts["charged_minor"]),
        charges=int(counts["charges"]),
        orders=int(counts["orders"]),
        refunds=int(counts.get("refunds", 0)),
        mails=int(counts["mails"]),
    )


def handled(books: Books, story: str, amount: int, *, naive: bool) -> int:
    confirmed, booked = books.handled(amount)
    if naive:
        return confirmed["naive"] + booked["naive"]
    return confirmed.total() + (booked.total() if story == "two-endpoints" else 0)


def require_the_truth(
    story: str, naive: Side, protected: Side, counts: tuple[Counts, Counts], amount: int
) -> None:
    """What both sides show is what has happened, and on one it is as it should be."""
    right = STORIES[story].scenario
    assert (shown(naive), shown(protected)) == counts
    assert shown(protected) == Counts(
        charged_minor=right.charges * amount,
        charges=right.charges,
        orders=right.orders,
        refunds=right.refunds,
        mails=right.mails,
    )
    assert protected.verdict == "✓ As it should be"
    assert naive.verdict.startswith("✗ ")


@pytest.mark.parametrize("story", [each for each in STORIES if each != "storm"])
def test_page_says_what_the_books_say(lab: LabPage, books: Books, story: str) -> None:
    before = books.amounts()

    lab.play(story)

    naive, protected = lab.side("naive"), lab.side("protected")
    amounts = sorted(books.amounts() - before)[-2:]
    counts = (books.of(amounts[0]), books.of(amounts[1]))
    require_the_truth(story, naive, protected, counts, amounts[1])
    if (times := STORIES[story].scenario.handled) is not None:
        told = [int(side.counts["handled"]) for side in (naive, protected)]
        assert told == [
            handled(books, story, amounts[0], naive=True),
            handled(books, story, amounts[1], naive=False),
        ]
        assert told[1] == times
    assert lab.was_never_reloaded


def test_page_says_of_a_storm_what_the_books_say(storm: Storm) -> None:
    counts = (storm.naive_counts, storm.protected_counts)
    amount = storm.protected_counts.charged_minor
    require_the_truth("storm", storm.naive, storm.protected, counts, amount)


def test_each_copy_is_a_mark_with_the_order_that_it_got(storm: Storm) -> None:
    (order,) = storm.protected_orders

    assert storm.protected.marks == [str(order)] * 64
    assert len(storm.naive.marks) == 64
    assert sorted(storm.naive.orders) == sorted(storm.naive_orders)


def test_conclusion_tells_the_shop_owner_what_it_cost(storm: Storm) -> None:
    assert re.match(
        rf"The naive checkout charged your customer {storm.naive_counts.charges} times for "
        r"one order \(€[\d,.]+ instead of €[\d.]+\)\. The protected one charged once "
        r"and gave each of the 64 copies the same answer\.\n",
        storm.words,
    )


def test_answers_and_counts_appear_while_it_is_at_work(storm: Storm) -> None:
    lit = [glance["lit"] for glance in storm.glances]
    charges = {glance["charges"] for glance in storm.glances}

    assert 0 in lit
    assert any(0 < count < 128 for count in lit)
    assert charges >= {"0", storm.naive.counts["charges"]}


def test_double_click_starts_one_run(lab: LabPage, books: Books) -> None:
    before = books.amounts()

    ActionChains(lab.driver).double_click(lab.button("answer-lost")).perform()
    lab.conclusion()

    # One for each side.
    assert len(books.amounts() - before) == 2


def test_run_underway_is_shown_wherever_one_looks_or_clicks(
    lab: LabPage, books: Books
) -> None:
    before = books.amounts()

    lab.button("mail-twice").click()
    until(lab.driver, lambda _: lab.side("naive").marks)
    lab.button("storm").click()
    note = lab.text_of("note")
    first, address = lab.driver.current_window_handle, lab.driver.current_url
    lab.driver.switch_to.new_window("tab")
    lab.driver.get(address)
    elsewhere = lab.conclusion()
    lab.driver.close()
    lab.driver.switch_to.window(first)

    assert note.startswith("A run is underway.")
    assert lab.conclusion() == elsewhere
    assert len(books.amounts() - before) == 2


def test_keyboard_is_enough(lab: LabPage) -> None:
    lab.driver.execute_script("arguments[0].focus()", lab.button("double-click"))
    ActionChains(lab.driver).send_keys(Keys.ENTER).perform()

    assert "charged once and gave both copies the same answer" in lab.conclusion()
