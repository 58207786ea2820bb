"""The lab for everybody: at any width, by the rules of axe, and at rest if wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from axe_selenium_python import Axe
from selenium.webdriver.common.by import By

from tests.browser.chromium import DESKTOP, PHONE, Window, until

from .pages import Demo, LabPage

if TYPE_CHECKING:
    from tests.browser.conftest import OpenChromium

WIDER_THAN_THE_WINDOW = """
return [...document.querySelectorAll("main *")]
  .filter((e) => !e.closest(".visually-hidden") && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 80));
"""
TOO_SMALL_TO_TOUCH = """
return [...document.querySelectorAll("#stories button")]
  .filter((e) => e.getBoundingClientRect().height < 44).map((e) => e.textContent);
"""
# As the page makes it when a request is sent.
ADD_MARK = """
const mark = document.createElement("li");
mark.className = "mark";
mark.dataset.shape = "waiting";
document.querySelector("[data-requests]").append(mark);
return getComputedStyle(mark).animationName;
"""


# The axe for Python 3.11 doesn't know yet that HTML allows a div around dt and dd.
OPTIONS = '{"rules": {"dlitem": {"enabled": false}}}'


def faults_of(lab: LabPage) -> list[str]:
    axe = Axe(lab.driver)
    axe.inject()
    violations = [
        f"{each['id']}: {node['html']}"
        for each in axe.run(options=OPTIONS)["violations"]
        for node in each["nodes"]
    ]
    run = lab.driver.execute_script
    return [*violations, *run(WIDER_THAN_THE_WINDOW), *run(TOO_SMALL_TO_TOUCH)]


@pytest.mark.parametrize(
    ("window", "story"),
    [
        # Payments that are refused and one that lasts; refunds; reports to come again.
        pytest.param(PHONE, "slow-killed", id="phone"),
        pytest.param(DESKTOP, "handler-fails", id="desktop"),
    ],
)
def test_lab_bars_nobody_at_rest_at_work_and_in_the_end(
    chromium: OpenChromium, demo: Demo, window: Window, story: str
) -> None:
    with chromium(window=window) as driver:
        lab = LabPage.opened(driver, demo.pages["lab"])
        at_rest = faults_of(lab)
        lab.button(story).click()
        until(driver, lambda _: lab.side("protected").marks)
        at_work = faults_of(lab)
        lab.conclusion()
        at_the_end = faults_of(lab)

        assert (at_rest, at_work, at_the_end) == ([], [], [])
        assert lab.complaints() == []


@pytest.mark.parametrize("window", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_conclusion_comes_into_view(
    chromium: OpenChromium, demo: Demo, window: Window
) -> None:
    with chromium(window=window) as driver:
        lab = LabPage.opened(driver, demo.pages["lab"])
        lab.play("double-click")

        conclusion = driver.find_element(By.ID, "conclusion").rect
        top, height = driver.execute_script("return [scrollY, innerHeight]")
        assert top <= conclusion["y"] <= top + height - conclusion["height"]


@pytest.mark.parametrize(
    ("wishes", "animation"),
    [
        pytest.param(["--force-prefers-reduced-motion"], "none", id="reduced"),
        pytest.param([], "wait", id="any"),
    ],
)
def test_nothing_moves_for_who_asked_for_less_motion(
    chromium: OpenChromium, demo: Demo, wishes: list[str], animation: str
) -> None:
    with chromium(*wishes) as driver:
        LabPage.opened(driver, demo.pages["lab"])

        assert driver.execute_script(ADD_MARK) == animation
