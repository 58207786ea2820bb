"""The lab's page, as somebody reads and uses it."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import Any

import psutil
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.remote.webelement import WebElement

from tests.browser.chromium import press, until

from .books import Counts

STORY_SECONDS = 150
"""Stories have time-outs of their own, and play one after the other."""

# Writes down what the page shows of a run before its conclusion, whenever that changes.
WATCH = """
window.glances = [];
window.notes = new Set();
const arena = document.querySelector("#arena");
new MutationObserver(() => {
  window.notes.add(arena.querySelector("#note").textContent);
  const conclusion = arena.querySelector("#conclusion").textContent;
  if (conclusion) return;
  window.glances.push({
    lit: arena.querySelectorAll("li[data-look]").length,
    charges: arena.querySelector("[data-side=naive] [data-count=charges] b").textContent,
  });
}).observe(arena, { subtree: true, childList: true, attributes: true });
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    process: subprocess.Popen[str]
    pages: dict[str, Any]

    def kill(self, module: str) -> None:
        """End all the demo's servers that run this module."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        found = [
            child for child in children if f"{module}:application" in child.cmdline()
        ]
        assert found
        for child in found:
            child.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one of the two sides shows."""

    counts: dict[str, str]
    verdict: str
    marks: list[str]
    #: The numbers on those that were done: of orders, where all requests are payments.
    orders: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """One run of 64 copies, for all tests that look at one."""

    words: str
    #: What the page showed before its conclusion.
    glances: list[dict[str, Any]]
    naive: Side
    naive_counts: Counts
    naive_orders: list[int]
    protected: Side
    protected_counts: Counts
    protected_orders: list[int]


class LabPage:
    def __init__(self, driver: WebDriver) -> None:
        self.driver = driver

    @classmethod
    def opened(cls, driver: WebDriver, address: str) -> LabPage:
        driver.get(address)
        driver.execute_script("window.isTheSamePage = true;" + WATCH)
        return cls(driver)

    def button(self, story: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, f"button[value='{story}']")

    def text_of(self, element_id: str) -> str:
        return self.driver.find_element(By.ID, element_id).text

    @property
    def is_busy(self) -> bool:
        arena = self.driver.find_element(By.ID, "arena")
        return arena.get_attribute("aria-busy") == "true"

    @property
    def was_never_reloaded(self) -> bool:
        return bool(self.driver.execute_script("return window.isTheSamePage"))

    def seen(self, name: str) -> list[Any]:
        """The ``glances`` or ``notes`` so far, also of what is gone again."""
        return list(self.driver.execute_script(f"return [...{name}]"))

    def press(self, story: str) -> None:
        press(self.driver, self.button(story))

    def play(self, story: str) -> str:
        """Press the button, wait for the end and return the conclusion.

        Again if the page asks for that: on a busy machine a server may die too late.
        """
        for _ in range(3):
            self.press(story)
            words = self.conclusion()
            if not words.startswith("This did not happen as it should"):
                break
        return words

    def conclusion(self) -> str:
        """What the page says in the end, which is a conclusion and no error."""
        until(
            self.driver,
            lambda _: self.text_of("conclusion") or self.text_of("error"),
            seconds=STORY_SECONDS,
        )
        until(self.driver, lambda _: not self.is_busy)
        assert self.text_of("error") == ""
        return self.text_of("conclusion")

    def side(self, name: str) -> Side:
        element = self.driver.find_element(By.CSS_SELECTOR, f"[data-side='{name}']")
        counts = {
            str(row.get_attribute("data-count")): row.find_element(
                By.TAG_NAME, "b"
            ).text
            for row in element.find_elements(By.CSS_SELECTOR, "[data-count]")
        }
        marks = element.find_elements(By.CSS_SELECTOR, "li span[aria-hidden]")
        return Side(
            counts={name: count for name, count in counts.items() if count},
            verdict=element.find_element(By.CSS_SELECTOR, "[data-verdict]").text,
            marks=[mark.text for mark in marks],
            orders=[
                int(mark.text)
                for mark in element.find_elements(
                    By.CSS_SELECTOR, "li[data-shape='good'] span[aria-hidden]"
                )
            ],
        )


def minor(euros: str) -> int:
    """€1,953.42 in cents."""
    return int(re.sub(r"\D", "", euros))
