"""What is taken from pages by machine, or drawn in them, is what there is."""

import re
import shlex
from typing import Any

import pytest

from tests.support import pgbouncer

from .readme import README, ROOT, block


@pytest.mark.parametrize("marker", ["command: demo", "command: test"])
def test_command_is_one_line_and_needs_nothing_but_python_and_a_checkout(
    marker: str,
) -> None:
    command = block(marker)

    programs = [part.split()[0] for part in command.split("&&")]
    assert (command.count("\n"), bool(shlex.split(command))) == (1, True)
    assert programs == ["python3", ".venv/bin/pip", ".venv/bin/tox"]


def test_local_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)

    missing = [target for target in targets if not (ROOT / target).exists()]

    assert targets
    assert missing == []


# The page for maintainers draws the tree that there is

INSIDE = (ROOT / "docs" / "explanation" / "inside.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "django_idempotency"
FOLDERS = ["core", "engine", "http", "store"]
ARE_NOTHING_TO_READ = {
    "py.typed",
    "locale",
    "static",
    "templates",
    "__pycache__",
    "__init__.py",
}


def drawn(folder: str) -> set[str]:
    """The names that are indented under a folder of the tree."""
    (block,) = re.findall(rf"^  {folder}/ .*\n((?:    \S.*\n)+)", INSIDE, re.MULTILINE)
    return {line.split()[0].rstrip("/") for line in block.splitlines()}


def there_are(folder: str) -> set[str]:
    return {path.name for path in (PACKAGE / folder).iterdir()}


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_drawn_as_it_is(folder: str) -> None:
    assert (
        drawn(folder) | ARE_NOTHING_TO_READ == there_are(folder) | ARE_NOTHING_TO_READ
    )


def test_top_level_is_drawn_as_it_is() -> None:
    tree = INSIDE.split("```text\n")[1].split("```")[0]
    names = {
        name.rstrip("/")
        for line in re.findall(r"^  (\S.*)$", tree, re.MULTILINE)
        for name in line.split()
        if name.endswith((".py", "/"))
    }

    assert names | ARE_NOTHING_TO_READ == there_are(".") | ARE_NOTHING_TO_READ


# What users of PgBouncer are told is what the tests run with

DEPLOYMENT = (ROOT / "docs" / "howto" / "deploy-on-postgresql.md").read_text(
    encoding="utf-8"
)
SECTION = DEPLOYMENT.partition("## Behind PgBouncer\n")[2].partition("\n## ")[0]


def _block(language: str) -> str:
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.M | re.S)
    return str(block)


def test_settings_of_django_are_those_of_the_tests() -> None:  # FR-077
    databases: dict[str, dict[str, Any]] = {"default": {}}

    exec(_block("python"), {"DATABASES": databases})  # noqa: S102 - our own page

    assert databases["default"] == pgbouncer.DATABASE_SETTINGS


def test_settings_of_pgbouncer_are_those_of_the_tests() -> None:  # FR-077
    assert set(_block("ini").splitlines()) <= set(pgbouncer.CONFIGURATION.splitlines())
