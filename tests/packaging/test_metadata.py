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
CHANGELOG = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")


def test_version_is_written_once_and_only_django_is_required() -> None:
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert "version" not in PYPROJECT["project"]
    assert PYPROJECT["project"]["dependencies"] == ["Django>=5.2"]


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
