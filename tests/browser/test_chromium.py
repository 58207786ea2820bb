"""The browsers that the other tests rely on."""

import http.server
import threading
from collections.abc import Iterator

import pytest
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser import chromium as driving
from tests.browser.chromium import (
    DESKTOP,
    PHONE,
    ProgramMissing,
    installed_programs,
    new_visit,
    press,
)

REMEMBER = """
document.cookie = "name=Ann";
for (const storage of [localStorage, sessionStorage]) storage.setItem("name", "Ann");
"""
RECALL = """
return [document.cookie, localStorage.name, sessionStorage.name, history.length];
"""


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


def test_two_visits_share_neither_cookies_nor_storage(
    desktop: WebDriver, address: str
) -> None:
    found = []
    for _ in range(2):
        with new_visit(desktop) as driver:
            driver.get(address)
            found.append(driver.execute_script(RECALL))
            driver.execute_script(REMEMBER)
            remembered = driver.execute_script(RECALL)

    assert found == [["", None, None, found[0][3]]] * 2
    assert remembered[:3] == ["name=Ann"] + ["Ann"] * 2


@pytest.mark.parametrize(
    ("browser", "window", "touch_points"),
    [("desktop", DESKTOP, 0), ("phone", PHONE, 1)],
    indirect=["browser"],
    ids=["desktop", "phone"],
)
def test_window_is_a_desktops_or_a_phones(
    browser: WebDriver, address: str, window: driving.Window, touch_points: int
) -> None:
    browser.get(address)
    width, touch = browser.execute_script(
        "return [window.innerWidth, navigator.maxTouchPoints]"
    )

    assert (width, touch) == (window.width, touch_points)


@pytest.mark.parametrize("variable", ["CHROMIUM", "CHROMEDRIVER"])
def test_missing_program_is_an_error_that_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "/nowhere/program")

    with pytest.raises(ProgramMissing, match=r"apt-get install .* chromium-driver"):
        installed_programs()


LOSE_TAPS = """
window.taps = window.clicked = 0;
const button = document.body.appendChild(document.createElement("button"));
button.textContent = "Press me";
button.onclick = () => { window.clicked += 1; };
const lose = (event) => { if (++window.taps <= arguments[0]) event.preventDefault(); };
button.addEventListener("touchstart", lose, { passive: false });
return button;
"""


@pytest.mark.parametrize(("lost", "taps"), [(0, 1), (1, 2)])
@pytest.mark.parametrize("browser", ["phone"], indirect=True)
def test_phone_is_tapped_again_when_no_click_has_come(
    browser: WebDriver,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    lost: int,
    taps: int,
) -> None:
    monkeypatch.setattr(driving, "TAP_SECONDS", 1)
    browser.get(address)
    press(browser, browser.execute_script(LOSE_TAPS, lost))

    assert browser.execute_script("return [taps, clicked]") == [taps, 1]
