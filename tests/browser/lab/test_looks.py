"""The lab for everybody: at any width, by the rules of axe, and at rest if wanted."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import until, violations

from .pages import Demo, LabPage

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
    run = lab.driver.execute_script
    too_large_or_small = [*run(WIDER_THAN_THE_WINDOW), *run(TOO_SMALL_TO_TOUCH)]
    return violations(lab.driver, OPTIONS) + too_large_or_small


# Payments that are refused and one that lasts; refunds; reports to come again.
@pytest.mark.parametrize(
    ("browser", "story"),
    [("phone", "slow-killed"), ("desktop", "handler-fails")],
    indirect=["browser"],
)
def test_lab_bars_nobody_at_rest_at_work_and_in_the_end(
    lab: LabPage, story: str
) -> None:
    at_rest = faults_of(lab)
    lab.press(story)
    until(lab.driver, lambda _: lab.side("protected").marks)
    at_work = faults_of(lab)
    lab.conclusion()

    assert (at_rest, at_work, faults_of(lab)) == ([], [], [])


@pytest.mark.parametrize("browser", ["phone", "desktop"], indirect=True)
def test_conclusion_comes_into_view(lab: LabPage) -> None:
    lab.play("double-click")

    conclusion = lab.driver.find_element(By.ID, "conclusion").rect
    top, height = lab.driver.execute_script("return [scrollY, innerHeight]")
    assert top <= conclusion["y"] <= top + height - conclusion["height"]


@pytest.mark.parametrize(("wish", "animation"), [("reduce", "none"), ("", "wait")])
def test_nothing_moves_for_who_asked_for_less_motion(
    demo: Demo, browser: WebDriver, wish: str, animation: str
) -> None:
    feature = {"name": "prefers-reduced-motion", "value": wish}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    LabPage.opened(browser, demo.pages["lab"])

    assert browser.execute_script(ADD_MARK) == animation
