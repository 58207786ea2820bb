"""The shop on real servers, and people in front of it."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from example_project.theatre.demo.stage import Customer, Stage, set_up
from tests.browser.shop.books import Books
from tests.browser.shop.shopper import Shopper
from tests.browser.shop.wire import Wire


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with set_up(unprotected=False, progress=lambda step: None) as stage:
        yield stage


@pytest.fixture(scope="session")
def customer(stage: Stage) -> Customer:
    return stage.customers[0]


@pytest.fixture
def books(stage: Stage) -> Iterator[Books]:
    with closing(Books(stage)) as books:
        yield books


@pytest.fixture
def wire(stage: Stage) -> Wire:
    return Wire(stage.shop_url)


@pytest.fixture
def shopper(browser: WebDriver, wire: Wire, books: Books) -> Iterator[Shopper]:
    """A guest, of whose pages none may have an error."""
    with wire.open() as shop_url:
        shopper = Shopper(browser, shop_url)
        yield shopper
        assert shopper.complaints() == []
