"""Debian's Chromium without a screen, each time with a profile of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

__all__ = [
    "DESKTOP",
    "PATIENCE_SECONDS",
    "PHONE",
    "ProgramMissing",
    "Programs",
    "Window",
    "installed_programs",
    "open_chromium",
    "until",
]

T = TypeVar("T")

PATIENCE_SECONDS = 30
"""After which something that should happen on a page has not."""

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


@contextmanager
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


def until(driver: WebDriver, condition: Callable[[WebDriver], T]) -> T:
    """Return what the condition does, as soon as that is true.

    An element that isn't there yet, or not any more, counts as false.

    Raises:
        TimeoutException: if that takes longer than PATIENCE_SECONDS.
    """
    missing = (NoSuchElementException, StaleElementReferenceException)
    wait = WebDriverWait(driver, PATIENCE_SECONDS, 0.05, missing)
    return wait.until(condition)
