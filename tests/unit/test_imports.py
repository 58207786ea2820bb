"""Where modules stand, and what each may import of Django and of the example project.

import-linter sees other distributions only as a whole; this looks inside Django.
"""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import django_idempotency
from django_idempotency.decorators import idempotent

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "django_idempotency"
QUERIES = {"cursor", "objects", "select_for_update"}
MAY_QUERY = {
    "checks",  # asks the server for its settings
    "migrations",
    "models",
    "store",
    "testing",  # asks whether a test may use a database, and reads the project's tables
}
# All other tests are about the package, and run without the example project.
SHOW_THE_EXAMPLE = ("tests/example/", "tests/browser/lab/", "tests/browser/shop/")
# A new module at the top needs a user who imports it or Django, which looks for it there;
# what only the package needs belongs in one of the folders inside.
FOR_USERS = {
    "conf",
    "contrib",
    "decorators",
    "exceptions",
    "health",
    "http",
    "middleware",
    "policies",
    "rest_framework",
    "signals",
    "tasks",
    "testing",
    "webhooks",
}
FOR_DJANGO = {
    "__init__",
    "admin",
    "apps",
    "checks",
    "fields",  # migrations freeze its path
    "management",
    "migrations",
    "models",
    "templatetags",
}
INSIDE = {"core", "store", "engine", "stories"}
KNOWS_NO_HTTP = {"engine", "store", "core", "models", "migrations"}


@cache
def _sources() -> list[tuple[str, ast.Module]]:
    """Each file's folder (its first part) and syntax tree."""
    return [
        (
            file.relative_to(PACKAGE).with_suffix("").parts[0],
            ast.parse(file.read_text(encoding="utf-8")),
        )
        for file in PACKAGE.rglob("*.py")
    ]


def _imported(node: ast.AST) -> Iterator[str]:
    """Dotted names of what is imported at run time, at any depth."""
    match node:
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            return
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=str(module), level=0, names=names):
            yield from (f"{module}.{alias.name}" for alias in names)
        case _:
            pass
    for child in ast.iter_child_nodes(node):
        yield from _imported(child)


def test_top_level_is_for_users_and_for_django() -> None:
    assert {name for name, _ in _sources()} == FOR_USERS | FOR_DJANGO | INSIDE


IN_A_FRESH_PROCESS = """
import sys
import django_idempotency

loaded = [each for each in sys.modules if each.startswith("django_idempotency")]
assert loaded == ["django_idempotency"], loaded
assert "django.db" not in sys.modules

import django
from django.conf import settings
settings.configure(INSTALLED_APPS=["django_idempotency"])
django.setup()

from django_idempotency import idempotent, decorators
assert idempotent is decorators.idempotent
"""


def test_package_is_imported_before_there_are_settings() -> None:
    done = subprocess.run(  # noqa: S603 - our own lines
        [sys.executable, "-c", IN_A_FRESH_PROCESS],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={each: os.environ[each] for each in ("PATH",)},
    )

    assert done.returncode == 0, done.stderr


def test_package_itself_has_the_decorator_and_no_other_name() -> None:
    assert django_idempotency.idempotent is idempotent
    assert "idempotent" in dir(django_idempotency)
    with pytest.raises(AttributeError, match="no attribute 'idempotents'"):
        django_idempotency.idempotents  # type: ignore[attr-defined] # noqa: B018


def test_core_asks_no_database() -> None:
    asking = {
        name
        for folder, tree in _sources()
        if folder == "core"
        for name in _imported(tree)
        if f"{name}.".startswith(("django.db.", "django_idempotency.models."))
    }

    assert asking == set()


def test_modules_inside_list_no_names() -> None:
    """``__all__`` says what is for users; inside, the folder says that nothing is."""
    listing = {
        str(file.relative_to(PACKAGE))
        for folder in (*INSIDE, "http")
        for file in (PACKAGE / folder).rglob("*.py")
        if "__all__" in file.read_text(encoding="utf-8")
    }

    assert listing == {"http/__init__.py"}


@pytest.mark.parametrize("part", ["http", "middleware", "shortcuts", "views"])
def test_engine_and_what_is_below_do_not_know_http(part: str) -> None:
    knowing = {
        module
        for module, tree in _sources()
        if any(f"{name}.".startswith(f"django.{part}.") for name in _imported(tree))
    }

    assert knowing & KNOWS_NO_HTTP == set()


def test_only_the_store_and_what_is_beside_it_query() -> None:
    querying = {
        module
        for module, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in QUERIES
    }

    assert querying <= MAY_QUERY


def _files_that_import(name: str, *folders: str) -> set[str]:
    return {
        str(file.relative_to(ROOT))
        for folder in folders
        for file in (ROOT / folder).rglob("*.py")
        if name in (source := file.read_text(encoding="utf-8"))
        for imported in _imported(ast.parse(source))
        if f"{imported}.".startswith(f"{name}.")
    }


def test_package_is_tested_without_the_example_project() -> None:
    knowing = _files_that_import("example_project", "django_idempotency", "tests")

    assert {file for file in knowing if not file.startswith(SHOW_THE_EXAMPLE)} == set()


@pytest.mark.parametrize("name", ["django", "example_project", "tests"])
def test_servers_know_nobody_whom_they_serve(name: str) -> None:
    assert _files_that_import(name, "tests/support/servers") == set()
