"""The script that sends the key of raw data, beside the framework's own."""

from pathlib import Path
from typing import Any

import pytest
import rest_framework
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

import django_idempotency
from tests.browser.chromium import until
from tests.support.ordering import orders
from tests.testapp.models import Order


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("tab", ["raw", "html"])
def test_forms_of_the_browsable_api_work_at_once(
    tab: str, browser: WebDriver, live_server: Any, settings: Any, tmp_path: Path
) -> None:
    for app in (rest_framework, django_idempotency):
        static = Path(str(app.__file__)).parent / "static" / app.__name__
        (tmp_path / app.__name__).symlink_to(static)
    settings.STATIC_ROOT = tmp_path
    settings.ROOT_URLCONF = "tests.integration.rest.test_browsable"
    kind = {"raw": "generic-content", "html": "object"}[tab]
    form = f"#post-{kind}-form form"
    browser.get(f"{live_server.url}/orders/")
    for count in (1, 2):
        browser.find_element(By.NAME, f"{tab}-tab").click()
        name, text = {"raw": ("_content", '{"amount": 7}'), "html": ("amount", "7")}[
            tab
        ]
        field = browser.find_element(By.CSS_SELECTOR, f"{form} [name={name}]")
        field.clear()
        field.send_keys(text)
        browser.find_element(By.CSS_SELECTOR, f"{form} button").click()
        until(
            browser,
            lambda page: "201 Created" in page.find_element(By.TAG_NAME, "body").text,
        )
        assert orders() == count
        browser.get(f"{live_server.url}/orders/")

    assert set(Order.objects.values_list("amount", flat=True)) == {7}
