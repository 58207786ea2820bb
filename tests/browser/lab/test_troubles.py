"""A line that breaks while the lab is watched, and a stage that breaks itself."""

import signal

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import complaints, until
from tests.browser.shop.wire import Wire

from .books import Books
from .pages import Demo, LabPage

pytestmark = pytest.mark.timeout(300)

RESTART = (
    "Press Ctrl-C where the demo runs, and start it again with "
    "“python manage.py demo --serve”."
)


def test_gateway_that_dies_is_told_in_words(
    breakable_demo: Demo, browser: WebDriver
) -> None:
    lab = LabPage.opened(browser, breakable_demo.pages["lab"])
    lab.button("slow-answer-lost").click()
    until(browser, lambda _: lab.side("naive").marks)
    breakable_demo.kill("example_project.theatre.gateway.wsgi")
    until(browser, lambda _: not lab.is_busy)

    trouble = "The payment gateway does not answer, so no card can be charged."
    assert lab.text_of("error") == f"{trouble}\n{RESTART}"
    assert lab.text_of("conclusion") == ""

    # And who tries again is told at once, and nothing is played.
    lab.button("storm").click()
    until(browser, lambda _: lab.text_of("error"))
    assert lab.text_of("error") == f"{trouble}\n{RESTART}"
    assert lab.side("naive").marks == []

    # The lab itself is gone: its page, which is still there, says what to do.
    breakable_demo.process.send_signal(signal.SIGINT)
    breakable_demo.process.wait(60)
    lab.button("storm").click()
    until(
        browser, lambda _: lab.text_of("error").startswith("The lab does not answer.")
    )
    assert lab.was_never_reloaded


def test_page_goes_on_where_the_line_was_cut(demo: Demo, browser: WebDriver) -> None:
    wire = Wire(demo.pages["lab"])
    with wire.open() as address:
        lab = LabPage.opened(browser, f"{address}/lab/")
        lab.button("mail-twice").click()
        until(browser, lambda _: lab.side("naive").marks)
        wire.cut()

        lab.conclusion()

        assert "The line to the lab is cut; trying again." in lab.seen("notes")
        assert lab.text_of("note") == ""
        assert lab.was_never_reloaded
        # Each request once, whatever the page has been told twice.
        assert [len(lab.side(name).marks) for name in ("naive", "protected")] == [2, 2]
        assert lab.side("protected").verdict == "✓ As it should be"
    # The browser notes the broken line, and nothing else.
    assert all("/events/" in each for each in complaints(browser))


def test_start_whose_answer_was_lost_is_found_again(
    demo: Demo, browser: WebDriver, books: Books
) -> None:
    before = books.amounts()
    # All of them: the browser sends some requests again by itself.
    wire = Wire(demo.pages["lab"], answers_to_lose=100)
    with wire.open() as address:
        lab = LabPage.opened(browser, f"{address}/lab/")
        lab.button("mail-twice").click()
        until(browser, lambda _: lab.text_of("error").startswith("The lab does not"))
        wire.answers_to_lose = 0
        lab.button("mail-twice").click()
        lab.conclusion()

    first, *others = wire.answers("/lab/runs/")
    assert first == (201, False)
    assert set(others) == {(201, True)}
    assert len(books.amounts() - before) == 2
