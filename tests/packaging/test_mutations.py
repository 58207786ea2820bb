"""The suite notices when a guard is taken away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from .readme import ROOT

pytestmark = pytest.mark.packaging


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One guard of the package, and what is left without it."""

    module: str
    guard: str
    instead: str
    tests: tuple[str, ...]


MUTATIONS = {
    # Two copies no longer meet at one primary key.
    "FR-108-unique": Mutation(
        module="operations.py",
        guard="    return uuid8(digest_of(",
        instead="    return uuid.uuid4() or uuid8(digest_of(",
        tests=("tests/integration/test_engine.py",),
    ),
    # A collision is no longer confined to a transaction or savepoint of ours.
    "FR-108-savepoint": Mutation(
        module="claiming.py",
        guard="transaction.atomic(using=self.using, durable=self.durable)",
        instead="ExitStack()",
        tests=(
            "tests/integration/test_engine.py",
            "tests/integration/test_transactions.py",
        ),
    ),
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the tests need, to be broken."""
    for name in ("django_idempotency", "example_project", "tests"):
        shutil.copytree(
            ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_removed_guard_fails_a_test(mutation: Mutation, checkout: Path) -> None:
    """FR-108"""
    module = checkout / "django_idempotency" / mutation.module
    source = module.read_text(encoding="utf-8")
    assert source.count(mutation.guard) == 1
    assert _run(checkout, mutation.tests) == 0
    module.write_text(source.replace(mutation.guard, mutation.instead), "utf-8")

    assert _run(checkout, mutation.tests) == pytest.ExitCode.TESTS_FAILED


def _run(checkout: Path, tests: tuple[str, ...]) -> int:
    """Run these tests against the copy, on a database of their own."""
    environment = {
        name: value for name, value in os.environ.items() if name != "DATABASE_URL"
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    completed = subprocess.run(  # noqa: S603 - our own suite
        [*command, *tests],
        cwd=checkout,
        env={**environment, "PYTHONPATH": str(checkout)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return completed.returncode
