"""*Done once* in a browser: for everybody, at any width, in the dark and on paper."""

from __future__ import annotations

from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import complaints, violations
from tests.browser.front import day
from tests.browser.front.conftest import FRONT

pytestmark = pytest.mark.django_db(transaction=True)

WIDTHS = (
    "const { scrollWidth, clientWidth } = document.documentElement;"
    "return scrollWidth - clientWidth"
)
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"features": [{"name": "prefers-color-scheme", "value": "light"}]},
    "dark": {"features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    "print": {"media": "print"},
}


@pytest.mark.parametrize("browser", ["phone", "desktop"], indirect=True)
@pytest.mark.parametrize("look", LOOKS)
def test_page_is_barred_to_nobody(look: str, staff: WebDriver, served: str) -> None:
    """By the rules of axe, contrast included, and the browser has no complaints."""
    day.make(held=3)
    staff.execute_cdp_cmd("Emulation.setEmulatedMedia", LOOKS[look])
    for query in ("", "?span=7d", "?span=30d"):
        staff.get(f"{served}{FRONT}{query}")
        for folded in staff.find_elements(By.CSS_SELECTOR, "summary"):
            if folded.is_displayed():
                folded.click()
        assert violations(staff, within=".idempotency-front") == []
        assert staff.execute_script(WIDTHS) <= 0
    said = [each for each in complaints(staff) if "favicon" not in each]
    staff.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})

    assert said == []


def test_what_bars_somebody_is_found(staff: WebDriver, served: str) -> None:
    """The control: a drawing without words."""
    day.make()
    staff.get(served + FRONT)
    drawing = staff.find_element(By.CSS_SELECTOR, ".idempotency-front svg")
    staff.execute_script("arguments[0].removeAttribute('aria-label')", drawing)

    [found] = violations(staff, within=".idempotency-front")
    assert "svg" in found


def test_page_is_drawn_and_leads_on(staff: WebDriver, served: str) -> None:
    day.make()
    staff.get(served + FRONT)
    heights = [
        each.size["height"]
        for each in staff.find_elements(By.CSS_SELECTOR, "rect.is-lower")
    ]

    assert len(heights) == 2 * 24
    assert max(heights) > 20 * min(heights) > 0
    staff.find_element(By.LINK_TEXT, "last 7 days").click()
    assert "span=7d" in staff.current_url
    staff.find_element(By.PARTIAL_LINK_TEXT, "Find out and settle").click()
    assert "/idempotencyrecord/" in staff.current_url
