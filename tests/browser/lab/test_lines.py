"""A line that breaks while the lab is watched."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import until
from tests.browser.shop.wire import Wire

from .books import Books
from .lines import line_to
from .pages import Demo, LabPage

pytestmark = pytest.mark.timeout(300)


def test_page_goes_on_where_the_line_was_cut(demo: Demo, visitor: WebDriver) -> None:
    address = urlsplit(demo.pages["lab"])
    assert address.port
    with line_to(address.port) as line:
        through = f"127.0.0.1:{line.port}"
        lab = LabPage.opened(visitor, address._replace(netloc=through).geturl())
        lab.button("mail-twice").click()
        until(visitor, lambda _: lab.side("naive").marks)
        line.cut()

        lab.conclusion()

        assert "The line to the lab is cut; trying again." in lab.notes
        assert lab.text_of("note") == ""
        assert lab.was_never_reloaded
        # Each request once, whatever the page has been told twice.
        assert [len(lab.side(name).marks) for name in ("naive", "protected")] == [2, 2]
        assert lab.side("protected").verdict == "✓ As it should be"
    # The browser notes the broken line, and nothing else.
    assert all("/events/" in entry["message"] for entry in lab.complaints())


def test_start_whose_answer_was_lost_is_found_again(
    demo: Demo, visitor: WebDriver, books: Books
) -> None:
    before = books.amounts()
    # All of them: the browser sends some requests again by itself.
    wire = Wire(demo.pages["lab"], answers_to_lose=100)
    with wire.open() as address:
        lab = LabPage.opened(visitor, f"{address}/lab/")
        lab.button("mail-twice").click()
        until(visitor, lambda _: lab.text_of("error").startswith("The lab does not"))
        wire.answers_to_lose = 0
        lab.button("mail-twice").click()
        lab.conclusion()

    first, *others = wire.answers("/lab/runs/")
    assert first == (201, False)
    assert set(others) == {(201, True)}
    assert len(books.amounts() - before) == 2
    lab.complaints()  # of the answer that was lost
