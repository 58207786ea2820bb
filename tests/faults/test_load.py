"""Some seconds of the load that `tests.faults.load` can keep up for as long as wanted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.load import CLIENTS, COPIES, FAULTS, POOL, PROCESSES

pytestmark = [pytest.mark.concurrency, pytest.mark.postgresql]


def test_load_breaks_nothing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.load", "--minutes", "0.1", "--json"],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
        text=True,
        timeout=110,
    )
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)

    assert {name: found[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert done.returncode == 0
    assert set(found["answers"]["first"]) == {"201"}
    assert found["answers"]["storm"].keys() <= {"201", "201 replayed", "409 in-flight"}
    assert sum(found["answers"]["storm"].values()) >= CLIENTS
    own = 2  # the program's
    assert found["most_sessions"] <= PROCESSES * POOL + own
    assert found["slow_key"]["201"] == 1
    assert found["slow_key"]["201 replayed"] == COPIES
