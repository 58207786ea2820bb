"""Which layer may know which part of Django.

import-linter sees other distributions only as a whole; this looks inside Django. The
layers are those of its contract in ``pyproject.toml``.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "django_idempotency"
QUERIES = {"cursor", "objects", "select_for_update"}
MAY_QUERY = {
    "checks",  # asks the server for its settings
    "dialects",
    "event_store",
    "migrations",
    "models",
    "purging",
    "store",
}


def _layers() -> list[set[str]]:
    """The modules of each layer, top to bottom."""
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    contracts = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    (layers,) = (c["layers"] for c in contracts if c["type"] == "layers")
    return [set(re.findall(r"\w+", layer)) for layer in layers]


def _from_engine_down() -> set[str]:
    layers = _layers()
    (engine,) = (n for n, modules in enumerate(layers) if "engine" in modules)
    return set().union(*layers[engine:])


def _sources() -> Iterator[tuple[str, ast.Module]]:
    """Each file's layer name (its first part) and syntax tree."""
    for file in PACKAGE.rglob("*.py"):
        first = file.relative_to(PACKAGE).with_suffix("").parts[0]
        yield first, ast.parse(file.read_text(encoding="utf-8"))


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


@pytest.mark.parametrize(
    "part_of_django",
    ["django.http", "django.middleware", "django.shortcuts", "django.views"],
)
def test_engine_and_what_is_below_do_not_know_http(part_of_django: str) -> None:
    knowing = {
        module
        for module, tree in _sources()
        if any(f"{name}.".startswith(f"{part_of_django}.") for name in _imported(tree))
    }

    assert knowing & _from_engine_down() == set()


def test_only_the_store_and_what_is_beside_it_query() -> None:
    querying = {
        module
        for module, tree in _sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in QUERIES
    }

    assert querying <= MAY_QUERY
