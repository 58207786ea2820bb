"""Short runs of the programs of this folder, and what they must report as damage."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.conditions import SABOTAGES
from tests.faults.databases import DATABASES, GALERA, MARIADB, POSTGRESQL, left_out
from tests.faults.load import CLIENTS, COPIES, FAULTS, POOL, PROCESSES
from tests.faults.plans import KINDS

# They bring their own servers.
pytestmark = pytest.mark.timeout(600)

# Enough for each kind of fault to strike; a long campaign is run by hand.
RUNS = {POSTGRESQL: 96, MARIADB: 48, GALERA: 12}
ON_GALERA = (
    *("kill-at-statement", "kill-at-commit", "stop-at-call", "provider-slow"),
    *("database-killed", "node-cut-off"),
)
"""A few kinds there, since a node takes seconds to come back."""

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
    "renewal": ("provider-loses-answer", {"more than one charge"}),
    "shield": ("client-leaves", {"call cut"}),
    "seen": ("kill-at-call", {"more than one charge"}),
    "names": ("kill-at-statement", {"another tenant's handler"}),
    "mark": ("timeout-swallowed", {"acknowledged without effect"}),
    "beside": ("kill-at-statement", {"counted in a request"}),
    "stream": ("provider-slow", {"begun by two"}),
    "look-again": ("purge-killed", {"error without a fault"}),
}
"""By missing guard: the kind of fault, and what comes of it, one of them at least.

With all kinds it is noticed as well, only not as soon.
"""

ON_MARIADB = ("savepoint", "mark")
"""What differs there. The others are found as well, by hand: see the documentation.

So are those of Galera; `tests/concurrency/galera` goes without the same guards."""

on_each_database = pytest.mark.parametrize(
    "database",
    [
        pytest.param(
            name, marks=[] if name == POSTGRESQL else [getattr(pytest.mark, name)]
        )
        for name in DATABASES
    ],
)


def reported(module: str, *options: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and what was reported."""
    done = subprocess.run(  # noqa: S603 - our own programs
        [sys.executable, "-m", module, "--json", *options],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, result


@on_each_database
def test_short_campaign_finds_no_violation(database: str) -> None:
    runs = RUNS[database]
    options = [f"--runs={runs}", "--seed=1", f"--database={database}"]
    kinds = ON_GALERA if database == GALERA else KINDS.keys() - left_out(database)
    if database == GALERA:
        options += [f"--only={kind}" for kind in kinds]
    has_counts = "--count" not in left_out(database)
    code, result = reported(
        "tests.faults", *options, *(["--count"] if has_counts else [])
    )

    assert result["violations"] == []
    assert result["too_rare"] == []
    assert code == 0
    assert result["runs"] >= runs
    assert set(result["faults"]) == set(kinds)
    assert result["left_out"] == left_out(database)
    if has_counts:
        # How many come in time depends on the machine; the campaign itself looks at
        # whether each is right.
        assert sum(result["counts"]["written"].values()) > 0
        assert sum(result["counts"]["hindered"].values()) > 0


def test_every_guard_has_a_control() -> None:
    assert tuple(CONTROLS) == SABOTAGES


@pytest.mark.parametrize(
    ("database", "name"),
    [
        *(
            (POSTGRESQL, name)
            for name in SABOTAGES
            if f"sabotage {name}" not in left_out(POSTGRESQL)
        ),
        *(
            pytest.param(MARIADB, name, marks=pytest.mark.mariadb)
            for name in ON_MARIADB
        ),
    ],
)
def test_missing_guard_is_noticed(database: str, name: str) -> None:
    kind, rules = CONTROLS[name]
    code, result = reported(
        "tests.faults",
        "--runs=200",
        "--seed=1",
        f"--only={kind}",
        f"--sabotage={name}",
        f"--database={database}",
        "--until-violation",
    )

    assert code == 1
    assert rules & {each["rule"] for each in result["violations"]}
    assert all(each["seed"] == 1 for each in result["violations"])


@pytest.mark.postgresql
def test_load_breaks_nothing() -> None:
    status, found = reported("tests.faults.load", "--minutes", "0.1")

    assert {name: found[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert status == 0
    assert set(found["answers"]["first"]) == {"201"}
    assert found["answers"]["storm"].keys() <= {"201", "201 replayed", "409 in-flight"}
    assert sum(found["answers"]["storm"].values()) >= CLIENTS
    own = 2  # the program's
    assert found["most_sessions"] <= PROCESSES * POOL + own
    assert found["slow_key"]["201"] == 1
    assert found["slow_key"]["201 replayed"] == COPIES


FAILOVER = ("tests.faults.failover", "--seconds", "2")


@pytest.mark.postgresql
def test_failover_to_a_synchronous_standby_loses_and_repeats_nothing() -> None:
    status, found = reported(*FAILOVER)

    assert status == 0, found
    assert found["answered_before_the_kill"] > 0
    faults = ("lost", "twice", "not_replayed", "contradicted", "unanswered")
    assert {name: found[name] for name in faults} == dict.fromkeys(faults, 0)


@pytest.mark.postgresql
def test_what_is_lost_and_what_is_done_twice_is_seen() -> None:
    status, found = reported(*FAILOVER, "--asynchronous", "--unprotected")

    assert status == 1, found
    assert found["lost"] > 0
    assert found["twice"] > 0
