"""A short campaign, and what it must report when a guard is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.names import SABOTAGES
from tests.faults.plans import KINDS

# The campaign brings its own PostgreSQL.
pytestmark = [pytest.mark.concurrency, pytest.mark.timeout(600)]

# Enough for each kind of fault to strike; a long campaign is run by hand.
RUNS = 96

TWICE, NOT_KEPT = "more than one effect", "acknowledged, not kept"
CONTROLS = {
    "unique": ("kill-at-statement", {TWICE}),
    "savepoint": ("kill-at-commit", {"claim without an owner"}),
    "token": ("stop-at-call", {TWICE, NOT_KEPT, "claim without an owner"}),
    "signature": ("kill-at-statement", {"forged"}),
    "scope": ("kill-at-statement", {"answer to another principal"}),
    "kept": ("kill-at-statement", {TWICE}),
    "held": ("kill-at-call", {"more than one charge"}),
    "expiry": ("purge-killed", {TWICE, NOT_KEPT}),
}
"""By missing guard: the kind of fault, and what comes of it, one of them at least.

With all kinds it is noticed as well, only not as soon.
"""


def campaign(*options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and what was reported."""
    finished = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.faults", "--json", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(finished.stdout)
    return finished.returncode, result


def test_short_campaign_finds_no_violation() -> None:
    code, result = campaign(f"--runs={RUNS}", "--seed=1")

    assert result["violations"] == []
    assert result["too_rare"] == []
    assert code == 0
    assert result["runs"] >= RUNS
    assert set(result["faults"]) == set(KINDS)


def test_every_guard_has_a_control() -> None:
    assert tuple(CONTROLS) == SABOTAGES


@pytest.mark.parametrize("name", SABOTAGES)
def test_missing_guard_is_noticed(name: str) -> None:
    kind, rules = CONTROLS[name]
    code, result = campaign(
        "--runs=200",
        "--seed=1",
        f"--only={kind}",
        f"--sabotage={name}",
        "--until-violation",
    )

    assert code == 1
    assert rules & {each["rule"] for each in result["violations"]}
    assert all(each["seed"] == 1 for each in result["violations"])
