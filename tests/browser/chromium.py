"""Debian's Chromium without a screen, each time with a profile of its own."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from axe_selenium_python import Axe
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

T = TypeVar("T")

PATIENCE_SECONDS = 60
"""After which something that should happen on a page has not."""

TAP_SECONDS = 5
"""After which a tap that no click has come of is taken for lost."""
TAPS = 5

INSTALL = "apt-get install --no-install-recommends chromium chromium-driver"


class ProgramMissing(Exception):
    """A program of the browser isn't there."""


@dataclass(frozen=True, slots=True)
class Programs:
    chromium: str
    chromedriver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    width: int
    height: int
    is_phone: bool = False
    """With touch instead of a mouse, and pages laid out for its width."""


DESKTOP = Window(width=1280, height=900)
PHONE = Window(width=390, height=844, is_phone=True)


def installed_programs() -> Programs:
    """Debian's, or those that the environment variables name.

    Raises:
        ProgramMissing: with the line that installs them.
    """
    return Programs(
        chromium=_program("CHROMIUM", "/usr/bin/chromium"),
        chromedriver=_program("CHROMEDRIVER", "/usr/bin/chromedriver"),
    )


def _program(variable: str, default: str) -> str:
    name = os.environ.get(variable, default)
    if (found := shutil.which(name)) is None:
        raise ProgramMissing(
            f"{name} is not there. Install it with `{INSTALL}`,"
            f" or name another program in the environment variable {variable}."
        )
    return found


@contextlib.contextmanager
def open_chromium(
    programs: Programs, *arguments: str, window: Window = DESKTOP
) -> Iterator[WebDriver]:
    """Open a browser that nobody has used, and quit it at the end, whatever happens.

    `arguments` are Chromium's, as in ``--host-resolver-rules=MAP shop.test 127.0.0.1``.
    """
    # The browser may still write when the driver says that it is gone.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = _options(programs, window)
        options.add_argument(f"--user-data-dir={profile}")
        for argument in arguments:
            options.add_argument(argument)
        driver = Chrome(options, ChromeService(programs.chromedriver))
        try:
            driver.set_page_load_timeout(PATIENCE_SECONDS)
            driver.set_script_timeout(PATIENCE_SECONDS)
            yield driver
        finally:
            driver.quit()


@contextlib.contextmanager
def new_visit(driver: WebDriver) -> Iterator[WebDriver]:
    """The same browser, as if nobody had used it: what it keeps is thrown away."""
    first = driver.current_window_handle
    driver.switch_to.new_window("tab")
    complaints(driver)
    try:
        yield driver
    finally:
        for handle in driver.window_handles:
            driver.switch_to.window(handle)
            if handle != first:
                _forget(driver)
                driver.close()
        driver.switch_to.window(first)


def _forget(driver: WebDriver) -> None:
    origin = driver.execute_script("return origin")
    types = {"origin": origin, "storageTypes": "all"}
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", types)


def complaints(driver: WebDriver) -> list[str]:
    """What the browser has said of its pages since it was asked last."""
    log = driver.execute("getLog", {"type": "browser"})["value"]
    return [entry["message"] for entry in log]


def offline(driver: WebDriver, is_offline: bool) -> None:
    driver.execute_cdp_cmd("Network.enable", {})
    conditions = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions", {"offline": is_offline, **conditions}
    )


def violations(
    driver: WebDriver, options: str | None = None, within: str | None = None
) -> list[str]:
    """Whether a page, or what is within a selector, bars somebody: by axe's rules."""
    axe = Axe(driver)
    axe.inject()
    return [
        f"{each['id']}: {node['html']}"
        for each in axe.run(context=within, options=options)["violations"]
        for node in each["nodes"]
    ]


def _options(programs: Programs, window: Window) -> ChromeOptions:
    options = ChromeOptions()
    options.binary_location = programs.chromium
    options.add_argument("--headless=new")
    options.add_argument(f"--window-size={window.width},{window.height}")
    # The pages are served on this machine, and what a container has as shared memory is
    # too little for a browser.
    options.add_argument("--no-proxy-server")
    options.add_argument("--disable-dev-shm-usage")
    if os.geteuid() == 0:  # Chromium's sandbox refuses to run as root
        options.add_argument("--no-sandbox")
    if window.is_phone:
        metrics = {"width": window.width, "height": window.height, "pixelRatio": 3}
        options.add_experimental_option(
            "mobileEmulation",
            {"deviceMetrics": {**metrics, "touch": True, "mobile": True}},
        )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return options


def until(
    driver: WebDriver, condition: Callable[[WebDriver], T], *, seconds: float = 0
) -> T:
    """Return what the condition does, as soon as that is true.

    An element that isn't there yet, or not any more, counts as false.

    Raises:
        TimeoutException: if that takes longer than `seconds`, or PATIENCE_SECONDS.
    """
    missing = (NoSuchElementException, StaleElementReferenceException)
    wait = WebDriverWait(driver, seconds or PATIENCE_SECONDS, 0.05, missing)
    return wait.until(condition)


# Of several taps one click arrives, however late. What hits something else, because the
# page has moved, is none.
LISTEN = """
const wanted = arguments[0];
window.listening?.abort();
window.listening = new AbortController();
window.clicks = 0;
window.hits = [];
const letOneThrough = (event) => {
  if (event.pointerType !== "touch") return;  // but a page's own, or a label's
  const hit = event.target.closest("label")?.control ?? event.target;
  if (!wanted.contains(hit)) {
    window.hits.push(hit.outerHTML.slice(0, 60));
    return;
  }
  window.clicks += 1;
  if (window.clicks === 1) return;
  event.stopImmediatePropagation();
  event.preventDefault();
};
const { signal } = window.listening;
addEventListener("click", letOneThrough, { capture: true, signal });
"""
IS_CLICKED = "return window.clicks !== 0"


def press(driver: WebDriver, element: WebElement) -> None:
    """Click, or on a phone tap, until one click has come of it.

    A tap that takes long, as on a busy machine, is a long press, and no click.
    """
    if not driver.execute_script("return navigator.maxTouchPoints"):
        element.click()
        return
    driver.execute_script(LISTEN, element)
    for _ in range(TAPS):
        # The page that follows may be there before the driver has said that it tapped.
        with contextlib.suppress(StaleElementReferenceException):
            element.click()
        with contextlib.suppress(TimeoutException):
            # On the page that follows nobody has counted.
            until(
                driver, lambda _: driver.execute_script(IS_CLICKED), seconds=TAP_SECONDS
            )
            return
    hits = driver.execute_script("return window.hits")
    raise AssertionError(f"No click has come of {TAPS} taps; they have hit {hits}.")
