"""The site, and one browser's visit to it."""

from __future__ import annotations

from dataclasses import dataclass

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser.chromium import press, until
from tests.browser.client.scene import Scene


@dataclass(frozen=True, slots=True)
class Site:
    address: str
    scene: Scene

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]


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
        press(self.browser, self.browser.find_element(By.TAG_NAME, "button"))

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
        """Whether the operation is open, as the library says."""
        return bool(self.browser.execute_script(OPEN) == "true")


READY = "return document.body.dataset.ready"
OPEN = "return document.body.dataset.open"
