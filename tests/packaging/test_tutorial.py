"""The tutorial, followed to the letter."""

import re
from pathlib import Path

import requests

from .browser import Browser
from .project import Project
from .readme import ROOT

PAGE = (ROOT / "docs" / "tutorial" / "checkout.md").read_text(encoding="utf-8")
KEY = "f1d2d2f9-24e9-4b5c-9d0a-7f9b3c1e5a77"


def _section(title: str) -> str:
    _, _, rest = PAGE.partition(f"## {title}\n")
    assert rest, f"the tutorial has no section {title!r}"
    return rest.partition("\n## ")[0]


def _files(section: str) -> list[tuple[str, str]]:
    """Each file that a section shows: its name from the sentence above, its text."""
    shown = re.findall(
        r"`([\w/]+\.py)`[^`]*\n\n```python\n(.*?)^```$", section, re.M | re.S
    )
    assert len(shown) == section.count("```python")
    return shown


def _curls(section: str) -> list[str]:
    found = re.findall(r"^\$ (curl .*)$", section, re.MULTILINE)
    return [command.replace("$KEY", KEY) for command in found]


def _promised(section: str) -> list[str]:
    """The bodies that the section says one gets."""
    return re.findall(r"^\{.*\}$", section, re.MULTILINE)


def _play(address: str, section: str) -> list[requests.Response]:
    answers = [Browser(address).curl(command) for command in _curls(section)]
    assert answers
    return answers


def test_tutorial(tmp_path: Path, python: Path) -> None:
    project = Project(folder=tmp_path, python=python)
    project.start()
    project.manage("startapp", "orders")
    for name, text in _files(_section("A shop")):
        if name == "shop/settings.py":
            project.append(name, text)
        else:
            project.write(name, text)
    project.manage("makemigrations", "orders")
    project.manage("migrate")

    with project.serve() as address:
        unprotected = _play(address, _section("Order twice"))
    for name, text in _files(_section("Protect it")):
        project.write(name, text)
    with project.serve() as address:
        refused, first, second = _play(address, _section("Protect it"))
        (other_cart,) = _play(address, _section("Change the cart"))

    assert [a.text for a in unprotected] == _promised(_section("Order twice"))
    assert (refused.status_code, refused.json()["code"]) == (400, "key-missing")
    assert [a.text for a in (first, second)] == _promised(_section("Protect it"))
    assert second.headers["Idempotency-Replayed"] == "true"
    assert (other_cart.status_code, other_cart.json()["code"]) == (422, "key-reused")
