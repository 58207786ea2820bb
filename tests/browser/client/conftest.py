from collections.abc import Iterator

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.client.scene import VARIABLE, Scene
from tests.browser.client.site import Site, Visit
from tests.support.programs import environment
from tests.support.servers.gunicorn import gunicorn


@pytest.fixture(scope="session")
def _served(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[Site]:
    """In two processes, on the test database."""
    scene = Scene(tmp_path_factory.mktemp("scene"))
    variables = environment(
        DJANGO_SETTINGS_MODULE="tests.browser.client.settings",
        **{VARIABLE: str(scene.folder)},
    )
    application = "tests.browser.client.scene:played()"
    with gunicorn(application, workers=2, threads=8, **variables) as address:
        yield Site(address, scene)


@pytest.fixture
def site(_served: Site, transactional_db: None) -> Iterator[Site]:
    """The site, with empty tables, in which nothing goes wrong unless told."""
    yield _served
    _served.scene.clear()


@pytest.fixture
def visit(site: Site, browser: WebDriver) -> Visit:
    return Visit(browser, site.address).open()
