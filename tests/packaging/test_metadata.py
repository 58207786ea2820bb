"""What is written down in two places agrees."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest

import django_idempotency

from .readme import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TOX = (ROOT / "tox.ini").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "docs" / "contributing.md").read_text(encoding="utf-8")
CHANGELOG = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")


def test_version_is_written_once_and_only_django_is_required() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dependencies"] == ["Django>=5.2"]


# What is promised of the packages beside which this one is used

GROUPS = PYPROJECT["dependency-groups"]
DRIVER = {"mysqlclient"}
"""Its oldest is Django's own, which asks for it."""
NEIGHBOURS = {
    name: (oldest, newest, rows)
    for name, oldest, newest, *rows in re.findall(
        r"^\| ([\w-]+) \| ([\d.]+) \| ([\d.]+) \| `(\w+)` \| `(\w+)` \|$",
        CONTRIBUTING,
        re.M,
    )
}


def pins(group: str) -> dict[str, str]:
    """The versions that a dependency group pins, with those that it includes."""
    found: dict[str, str] = {}
    for each in GROUPS[group]:
        if isinstance(each, dict):
            found |= pins(each["include-group"])
        elif pin := re.match(r"([\w-]+)(?:\[.*?\])?==([\w.]+)", each):
            found[pin[1]] = pin[2]
    return found


def pins_of_row(row: str) -> dict[str, str]:
    section = re.search(rf"^\[testenv:{row}\]$(.*?)(?=^\[|\Z)", TOX, re.M | re.S)
    own = re.search(
        r"^dependency_groups =\n((?:    .+\n)+)", section[1] if section else "", re.M
    )
    lines = own[1] if own else "{[testenv]dependency_groups}"
    # What a row without a version in its name has.
    lines = lines.replace("{[testenv]dependency_groups}", "test\nextras-newest")
    return {name: pin for group in lines.split() for name, pin in pins(group).items()}


def test_every_neighbour_is_promised() -> None:
    bounds = {
        bound[1]: bound[2]
        for extra in PYPROJECT["project"]["optional-dependencies"].values()
        for each in extra
        if (bound := re.fullmatch(r"([\w-]+)>=([\d.]+)", each))
    }

    assert set(NEIGHBOURS) == set(bounds) - DRIVER | set(pins("neighbours-oldest"))
    for name in bounds.keys() & NEIGHBOURS.keys():
        # The oldest of a series, as 1.5.0 for 1.5.
        assert re.fullmatch(rf"{re.escape(bounds[name])}(\.\d+)*", NEIGHBOURS[name][0])


@pytest.mark.parametrize("name", sorted(NEIGHBOURS))
def test_oldest_and_newest_neighbour_are_run(name: str) -> None:
    oldest, newest, rows = NEIGHBOURS[name]
    for version, row in zip((oldest, newest), rows, strict=True):
        assert pins_of_row(row).get(name) == version, row
        assert re.search(rf"\b{row}\b", CI) or re.search(rf"^    {row}$", TOX, re.M)


def test_package_imports_nothing_that_has_to_be_installed() -> None:
    """At once: its decorator is imported when somebody asks for it."""
    source = ROOT / "django_idempotency" / "__init__.py"

    nodes = ast.parse(source.read_text(encoding="utf-8")).body
    imports = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]

    assert [ast.unparse(node) for node in imports] == [
        "from typing import TYPE_CHECKING, Any"
    ]


def test_changelog_names_the_version() -> None:
    """Under its own heading once it is released, until then as the next one."""
    version = re.escape(django_idempotency.__version__)

    assert re.findall(r"^## (.+)$", CHANGELOG, re.MULTILINE)[0] == "Unreleased"
    assert re.search(rf"^## {version}\b|will be {version}\.$", CHANGELOG, re.MULTILINE)


@pytest.mark.parametrize(
    "auto_field",
    [
        "django.db.models.AutoField",
        "django.db.models.BigAutoField",
        "tests.packaging.fields.UuidAutoField",
    ],
)
def test_no_auto_field_changes_the_migrations(auto_field: str) -> None:
    """FR-110: a project's DEFAULT_AUTO_FIELD must not want a migration of ours."""
    # A process of its own: the models of this one are made already.
    program = f"""
import django
from django.conf import settings
from django.core.management import call_command

settings.configure(
    DEFAULT_AUTO_FIELD={auto_field!r},
    INSTALLED_APPS=["django_idempotency"],
    DATABASES={{
        "default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    }},
)
django.setup()
call_command("makemigrations", "django_idempotency", check=True, dry_run=True)
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "No changes detected" in done.stdout
