from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.client.site import Site, Visit, serve


@pytest.fixture(scope="session")
def _served(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(_served: Site, transactional_db: None) -> Iterator[Site]:
    """The site, with empty tables, in which nothing goes wrong unless told."""
    yield _served
    _served.scene.clear()


@pytest.fixture
def visit(site: Site, browser: WebDriver) -> Visit:
    return Visit(browser, site.address).open()
