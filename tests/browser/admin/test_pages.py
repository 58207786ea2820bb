"""The story of a row for everybody: light and dark, phone and desktop, without scripts."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.admin import rows
from tests.browser.chromium import complaints, until, violations

OUR_HEADING = ".idempotency-story h1, .idempotency-front h1"
LIST = "/admin/django_idempotency/"

# What isn't in a landmark is the frame that django-unfold draws.
OURS = (
    '{"rules": {"region": {"enabled": false}, "landmark-one-main": {"enabled": false}}}'
)


def look(driver: WebDriver, *, scheme: str, width: int, media: str = "screen") -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"media": media, "features": [feature]}
    )
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


@pytest.fixture
def pages(address: str, reader: WebDriver) -> list[str]:
    held, done, dead = rows.held_payment(), rows.done_payment(), rows.dead_event()
    record = f"{address}{LIST}idempotencyrecord/{held.pk}"
    event = f"{address}{LIST}processedevent/{dead.pk}"
    return [
        f"{record}/change/",
        f"{record}/decide/applied/",
        f"{record}/decide/not-applied/",
        f"{address}{LIST}idempotencyrecord/{done.pk}/change/",
        f"{event}/change/",
        f"{event}/decide/run-again/",
        f"{address}{LIST}idempotencyrecord/find/?q=ada",
        f"{address}{LIST}processedevent/find/?q=nothing",
    ]


@pytest.mark.timeout(300)  # axe goes through each page
@pytest.mark.parametrize("width", [320, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_bars_nobody(
    reader: WebDriver, address: str, pages: list[str], scheme: str, width: int
) -> None:
    """By the rules of axe, contrast included; none is wider than the window, and
    under the strictest policy nothing is missing."""
    complaints(reader)
    look(reader, scheme=scheme, width=width)
    found: dict[str, Any] = {}
    for page in pages:
        reader.get(page)
        assert reader.find_elements(By.CSS_SELECTOR, OUR_HEADING)
        too_wide = reader.execute_script(
            "return document.documentElement.scrollWidth > innerWidth"
        )
        found[page] = violations(reader, OURS) + ["too wide"] * too_wide
    said = [each for each in complaints(reader) if "favicon" not in each]

    assert found == {page: [] for page in pages}
    assert said == []


# django-unfold's own frame needs its scripts.
@pytest.mark.parametrize("address", ["django"], indirect=True)
def test_payment_is_settled_without_scripts(
    reader: WebDriver, pages: list[str]
) -> None:
    reader.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        reader.get(pages[0])
        reader.find_element(By.PARTIAL_LINK_TEXT, "It is not there").click()
        reader.find_element(By.NAME, "reason").send_keys("no such charge")
        reader.find_element(By.CSS_SELECTOR, "button.is-first").click()
        until(reader, lambda page: page.current_url == pages[0])
        told = reader.find_element(By.CSS_SELECTOR, ".idempotency-story").text
    finally:
        reader.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})

    assert "The call has not happened; the next repeat makes it." in told
    assert "grace found out that the call has not happened. no such charge" in told


def test_story_is_printed_without_its_buttons(
    reader: WebDriver, pages: list[str]
) -> None:
    look(reader, scheme="light", width=800, media="print")
    reader.get(pages[0])
    buttons = reader.find_elements(By.CLASS_NAME, "idempotency-button")
    table = reader.find_element(By.CLASS_NAME, "idempotency-rows")

    assert [each.is_displayed() for each in buttons] == [False, False]
    assert table.is_displayed()
