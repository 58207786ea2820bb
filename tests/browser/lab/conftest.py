"""The lab as people open it: ``manage.py demo --serve``, and a real browser."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import complaints, new_visit
from tests.example.demo.commands import pages_of, start

from .books import Books
from .pages import Demo, LabPage, Storm


@contextmanager
def served() -> Iterator[Demo]:
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
    with Books(demo.pages) as books:
        yield books


@pytest.fixture
def lab(demo: Demo, browser: WebDriver) -> Iterator[LabPage]:
    """The page, newly opened; nothing may go wrong that only the browser tells."""
    yield LabPage.opened(browser, demo.pages["lab"])
    assert complaints(browser) == []


@pytest.fixture(scope="session")
def storm(demo: Demo, desktop: WebDriver) -> Storm:
    """What was seen of 64 copies, and what happened."""
    with new_visit(desktop) as driver, Books(demo.pages) as books:
        lab = LabPage.opened(driver, demo.pages["lab"])
        before = books.amounts()
        words = lab.play("storm")
        naive, protected = sorted(books.amounts() - before)[-2:]
        return Storm(
            words=words,
            glances=lab.seen("glances"),
            naive=lab.side("naive"),
            naive_counts=books.of(naive),
            naive_orders=books.orders(naive),
            protected=lab.side("protected"),
            protected_counts=books.of(protected),
            protected_orders=books.orders(protected),
        )
