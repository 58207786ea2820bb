"""The lab as people open it: ``manage.py demo --serve``, and a real browser."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from selenium.webdriver.remote.webdriver import WebDriver

    from tests.browser.conftest import OpenChromium

    from .books import Books
    from .pages import Demo, LabPage, Storm

# Both are needed, and a row may have only one of them.
collect_ignore_glob = (
    [] if find_spec("localstripe") and find_spec("selenium") else ["*"]
)


@contextmanager
def served() -> Iterator[Demo]:
    from tests.example.demo.commands import pages_of, start

    from .pages import Demo

    with start("--serve", "--format", "json") as process:
        try:
            yield Demo(process=process, pages=pages_of(process))
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    with served() as demo:
        yield demo


@pytest.fixture
def breakable_demo() -> Iterator[Demo]:
    """One of which servers may be killed."""
    with served() as demo:
        yield demo


@pytest.fixture
def books(demo: Demo) -> Iterator[Books]:
    from .books import Books

    with Books(demo.pages) as books:
        yield books


@pytest.fixture(scope="session")
def visitor(chromium: OpenChromium) -> Iterator[WebDriver]:
    """The browser of whoever has the lab open, for one test after the other."""
    with chromium() as driver:
        yield driver


@pytest.fixture
def lab(demo: Demo, visitor: WebDriver) -> Iterator[LabPage]:
    """The page, newly opened; nothing may go wrong that only the browser tells."""
    from .pages import LabPage

    page = LabPage.opened(visitor, demo.pages["lab"])
    yield page
    assert page.complaints() == []


@pytest.fixture(scope="session")
def storm(demo: Demo, visitor: WebDriver) -> Storm:
    """What was seen of 64 copies, and what happened."""
    from .books import Books
    from .pages import LabPage, Storm

    lab = LabPage.opened(visitor, demo.pages["lab"])
    with Books(demo.pages) as books:
        before = books.amounts()
        words = lab.play("storm")
        naive, protected = sorted(books.amounts() - before)[-2:]
        return Storm(
            words=words,
            glances=lab.glances,
            naive=lab.side("naive"),
            naive_charges=books.of(naive).charges,
            naive_orders=books.orders(naive),
            protected=lab.side("protected"),
            protected_orders=books.orders(protected),
        )
