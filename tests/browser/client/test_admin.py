"""Save in the admin, double-clicked in a real browser."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import until
from tests.browser.client.site import Site
from tests.concurrency.storm import AT_THE_GATE, gate_closed, until_waiting
from tests.testapp.models import Order

LIST = "/admin/testapp/order/"

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def add_order(site: Site, browser: WebDriver) -> WebDriver:
    """The filled-in form of a new order, before somebody who may add it."""
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    name = settings.SESSION_COOKIE_NAME
    browser.get(f"{site.address}/login/")
    browser.add_cookie({"name": name, "value": client.cookies[name].value})
    browser.get(f"{site.address}{LIST}add/")
    amount = browser.find_element(By.NAME, "amount")
    amount.clear()
    amount.send_keys("3")
    return browser


CLICK_WHEN_TOLD = """
    let clicks = 0;
    const save = document.querySelector("[name=_save]");
    setInterval(async () => {
        const answer = await fetch("/turns/");
        if (clicks < Number(await answer.text())) {
            clicks += 1;
            save.click();
        }
    }, 100);
"""


def click_save_twice(site: Site, browser: WebDriver) -> None:
    """The second time when the first post has arrived, so that it can't be recalled."""
    with gate_closed() as gate:
        # The page does it: the driver waits for the answer to each click of its own.
        browser.execute_script(CLICK_WHEN_TOLD)
        for clicks in (1, 2):
            site.scene.next("turn")
            until_waiting(clicks, AT_THE_GATE)
        gate.open()
    until(browser, lambda page: page.current_url.endswith(LIST))


def test_save_that_is_clicked_twice_is_one_object(
    site: Site, add_order: WebDriver
) -> None:
    click_save_twice(site, add_order)

    assert list(Order.objects.values_list("amount", flat=True)) == [3]
    assert LogEntry.objects.count() == 1
    message = add_order.find_element(By.CLASS_NAME, "messagelist").text
    assert "saved once" in message or "added successfully" in message


def test_save_without_its_key_that_is_clicked_twice_is_two_objects(
    site: Site, add_order: WebDriver
) -> None:
    """The negative control."""
    remove = "document.querySelector('[name=idempotency_key]').remove()"
    add_order.execute_script(remove)
    click_save_twice(site, add_order)

    until(add_order, lambda page: Order.objects.count() == 2)


def test_form_sent_before_with_other_content_comes_back_and_can_be_saved(
    add_order: WebDriver,
) -> None:
    """As from a browser that shows the page as it was after going back."""
    key = add_order.find_element(By.NAME, "idempotency_key").get_attribute("value")
    save(add_order)
    until(add_order, lambda page: page.current_url.endswith(LIST))
    add_order.get(add_order.current_url + "add/")
    old = "document.querySelector('[name=idempotency_key]').value = arguments[0]"
    add_order.execute_script(old, key)
    amount = add_order.find_element(By.NAME, "amount")
    amount.clear()
    amount.send_keys("7")
    save(add_order)

    until(add_order, lambda page: page.find_element(By.CLASS_NAME, "errornote"))
    assert Order.objects.count() == 1
    assert add_order.find_element(By.NAME, "amount").get_attribute("value") == "7"

    save(add_order)
    until(add_order, lambda page: page.current_url.endswith(LIST))
    assert Order.objects.count() == 2


def save(browser: WebDriver) -> None:
    browser.find_element(By.NAME, "_save").click()
