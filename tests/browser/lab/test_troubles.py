"""What the page says when the stage itself breaks."""

from __future__ import annotations

import signal

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import until

from .pages import Demo, LabPage

pytestmark = pytest.mark.timeout(300)

RESTART = (
    "Press Ctrl-C where the demo runs, and start it again with "
    "“python manage.py demo --serve”."
)


def test_gateway_that_dies_is_told_in_words(
    breakable_demo: Demo, browser: WebDriver
) -> None:
    lab = LabPage.opened(browser, breakable_demo.pages["lab"])
    lab.button("slow-answer-lost").click()
    until(browser, lambda _: lab.side("naive").marks)
    breakable_demo.kill("example_project.gateway.wsgi")
    until(browser, lambda _: not lab.is_busy)

    trouble = "The payment gateway does not answer, so no card can be charged."
    assert lab.text_of("error") == f"{trouble}\n{RESTART}"
    assert lab.text_of("conclusion") == ""

    # And who tries again is told at once, and nothing is played.
    lab.button("storm").click()
    until(browser, lambda _: lab.text_of("error"))
    assert lab.text_of("error") == f"{trouble}\n{RESTART}"
    assert lab.side("naive").marks == []

    # The lab itself is gone: its page, which is still there, says what to do.
    breakable_demo.process.send_signal(signal.SIGINT)
    breakable_demo.process.wait(60)
    lab.button("storm").click()
    until(
        browser, lambda _: lab.text_of("error").startswith("The lab does not answer.")
    )
    assert lab.was_never_reloaded
