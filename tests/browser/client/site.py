"""The site in processes of its own, and one browser's visit to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from example_project.demo.processes import Children, listen, url_of
from tests.browser.chromium import until
from tests.browser.client.scene import VARIABLE, Scene
from tests.concurrency.servers import environment

__all__ = ["Site", "Visit", "serve"]


@dataclass(frozen=True, slots=True)
class Site:
    address: str
    scene: Scene

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


@contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Serve until the end, in two processes, on the test database."""
    scene = Scene(folder / "scene")
    scene.folder.mkdir()
    with ExitStack() as stack:
        listener = stack.enter_context(closing(listen()))
        children = stack.enter_context(Children(folder))
        program = [
            *(sys.executable, "-m", "gunicorn", "tests.browser.client.wsgi"),
            f"--bind=fd://{listener.fileno()}",
            *("--workers=2", "--threads=8", "--timeout=120", "--no-control-socket"),
        ]
        variables = environment(
            DJANGO_SETTINGS_MODULE="tests.browser.client.settings",
            **{VARIABLE: str(scene.folder)},
        )
        children.start("site", program, variables, listener)
        children.ready("site", f"{url_of(listener)}/login/")
        yield Site(url_of(listener), scene)


@dataclass(frozen=True, slots=True)
class Visit:
    """The page with the button, in one browser."""

    browser: WebDriver
    address: str

    def open(self, query: str = "") -> Visit:
        self.browser.get(f"{self.address}/{query}")
        return self.ready()

    def ready(self) -> Visit:
        until(self.browser, lambda page: page.execute_script(READY) == "true")
        return self

    def fill_in(self, **fields: str) -> None:
        for name, value in fields.items():
            field = self.browser.find_element(By.NAME, name)
            field.clear()
            field.send_keys(value)

    def press(self) -> None:
        self.browser.find_element(By.TAG_NAME, "button").click()

    def pay(self, **fields: str) -> str:
        """Press the button and return what the page says to that."""
        before = len(self.said)
        self.fill_in(**fields)
        self.press()
        return self.answers(before + 1)[-1]

    def answers(self, count: int) -> list[str]:
        """Return what the page has said, as soon as that is so much."""
        until(self.browser, lambda page: len(self.said) >= count)
        return self.said

    @property
    def said(self) -> list[str]:
        items = self.browser.find_elements(By.TAG_NAME, "li")
        return [item.text for item in items]

    @property
    def is_open(self) -> bool:
        """Whether the attempt is, as the library says."""
        return bool(self.browser.execute_script(OPEN) == "true")

    def wait_for_the_end_of_a_double_click(self) -> None:
        since = self.browser.execute_script(NOW)
        until(self.browser, lambda page: page.execute_script(NOW) - since > 2000)


READY = "return document.body.dataset.ready"
OPEN = "return document.body.dataset.open"
NOW = "return performance.now()"
