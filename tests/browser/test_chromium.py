"""The browsers that the other tests rely on."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser import chromium as driving
from tests.browser.chromium import (
    DESKTOP,
    PHONE,
    ProgramMissing,
    installed_programs,
    until,
)

OpenChromium = Callable[..., AbstractContextManager[WebDriver]]

REMEMBER = "document.cookie = 'name=Ann'; sessionStorage.setItem('name', 'Ann')"
RECALL = "return [document.cookie, sessionStorage.getItem('name')]"


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(
            b"<!doctype html><meta name=viewport content='width=device-width'>"
        )

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_two_browsers_share_neither_cookies_nor_storage(
    chromium: OpenChromium, address: str
) -> None:
    with chromium() as ann, chromium() as ben:
        for driver in (ann, ben):
            driver.get(address)
        ann.execute_script(REMEMBER)

        assert ann.execute_script(RECALL) == ["name=Ann", "Ann"]
        assert ben.execute_script(RECALL) == ["", None]


@pytest.mark.parametrize(
    ("window", "touch_points"), [(DESKTOP, 0), (PHONE, 1)], ids=["desktop", "phone"]
)
def test_window_is_a_desktops_or_a_phones(
    chromium: OpenChromium, address: str, window: driving.Window, touch_points: int
) -> None:
    with chromium(window=window) as driver:
        driver.get(address)
        width, touch = driver.execute_script(
            "return [window.innerWidth, navigator.maxTouchPoints]"
        )

    assert (width, touch) == (window.width, touch_points)


def test_waiting_ends_with_what_was_waited_for(browser: WebDriver) -> None:
    browser.get("data:text/html,<p>soon</p>")
    browser.execute_script("setTimeout(() => { window.word = 'done' }, 100)")

    word = until(browser, lambda driver: driver.execute_script("return window.word"))

    assert word == "done"


def test_waiting_in_vain_is_an_error(
    browser: WebDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "PATIENCE_SECONDS", 0.1)

    with pytest.raises(TimeoutException):
        until(browser, lambda driver: False)


@pytest.mark.parametrize("variable", ["CHROMIUM", "CHROMEDRIVER"])
def test_missing_program_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/nowhere/program")

    with pytest.raises(ProgramMissing, match=r"apt-get install .* chromium-driver"):
        installed_programs()
