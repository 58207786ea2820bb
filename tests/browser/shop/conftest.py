"""The shop on real servers, and people in front of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from example_project.demo.stage import Customer, Stage
    from tests.browser.conftest import OpenChromium
    from tests.browser.shop.books import Books
    from tests.browser.shop.shopper import Shopper
    from tests.browser.shop.wire import Wire

# Both are needed, and a row may have only one of them.
collect_ignore_glob = (
    [] if find_spec("localstripe") and find_spec("selenium") else ["*"]
)


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    from example_project.demo.stage import set_up

    with set_up(unprotected=False, progress=lambda step: None) as stage:
        yield stage


@pytest.fixture(scope="session")
def customer(stage: Stage) -> Customer:
    return stage.customers[0]


@pytest.fixture
def books(stage: Stage) -> Iterator[Books]:
    from tests.browser.shop.books import Books

    with closing(Books(stage)) as books:
        yield books


@pytest.fixture
def wire(stage: Stage) -> Wire:
    from tests.browser.shop.wire import Wire

    return Wire(stage.shop_url)


@pytest.fixture
def shopper(chromium: OpenChromium, wire: Wire, books: Books) -> Iterator[Shopper]:
    """A guest with a browser of her own, of which no page may have an error."""
    from tests.browser.shop.shopper import Shopper

    with wire.open() as shop_url, chromium() as driver:
        shopper = Shopper(driver, shop_url)
        yield shopper
        assert shopper.complaints() == []
