"""The suite notices when a guard is taken away."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from .readme import ROOT


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
        module="core/keys.py",
        guard="    return uuid8(digest_of(",
        instead="    return uuid.uuid4() or uuid8(digest_of(",
        tests=("tests/integration/claims/test_engine.py",),
    ),
    # A collision is no longer confined to a transaction or savepoint of ours.
    "FR-108-savepoint": Mutation(
        module="engine/claiming.py",
        guard="transaction.atomic(using=self.using, durable=durable)",
        instead='__import__("contextlib").nullcontext()',
        tests=(
            "tests/integration/claims/test_engine.py",
            "tests/integration/transactions/test_transactions.py",
        ),
    ),
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the tests need, to be broken; untouched, it passes them."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("django_idempotency", "tests"):
        shutil.copytree(
            ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / "pyproject.toml", copy)
    every_test = {test for each in MUTATIONS.values() for test in each.tests}
    assert _run(copy, every_test) == 0
    return copy


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
def test_removed_guard_fails_a_test(mutation: Mutation, checkout: Path) -> None:
    """FR-108"""
    module = checkout / "django_idempotency" / mutation.module
    source = module.read_text(encoding="utf-8")
    assert source.count(mutation.guard) == 1
    module.write_text(source.replace(mutation.guard, mutation.instead), "utf-8")
    try:
        assert _run(checkout, mutation.tests) == pytest.ExitCode.TESTS_FAILED
    finally:
        module.write_text(source, "utf-8")


def _run(checkout: Path, tests: Iterable[str]) -> int:
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
