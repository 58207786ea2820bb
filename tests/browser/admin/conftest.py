from collections.abc import Iterator

import pytest
from django.test import Client
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.admin import rows
from tests.support.programs import environment
from tests.support.servers.gunicorn import gunicorn


@pytest.fixture(scope="session", params=["django", "unfold"])
def address(request: pytest.FixtureRequest, django_db_setup: None) -> Iterator[str]:
    """The admin, on the test database."""
    if request.param == "unfold":
        pytest.importorskip("unfold")
    name = {"django": "settings", "unfold": "settings_unfold"}[request.param]
    variables = environment(DJANGO_SETTINGS_MODULE=f"tests.browser.admin.{name}")
    with gunicorn(workers=1, threads=4, **variables) as address:
        yield address


@pytest.fixture
def reader(address: str, transactional_db: None, browser: WebDriver) -> WebDriver:
    """A browser in which somebody of the staff has signed in."""
    client = Client()
    client.force_login(rows.staff())
    browser.get(f"{address}/static/django_idempotency/admin.css")
    cookie = client.cookies["sessionid"]
    browser.add_cookie({"name": "sessionid", "value": cookie.value})
    return browser
