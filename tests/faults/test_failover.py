"""A primary dies under traffic: no answer that a client got is lost, none comes twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.concurrency, pytest.mark.postgresql]

ROOT = Path(__file__).parents[2]


def failover(*options: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(  # noqa: S603 - our own program
        [
            *(sys.executable, "-m", "tests.faults.failover", "--json"),
            *("--seconds", "2", *options),
        ],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=110,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_failover_to_a_synchronous_standby_loses_and_repeats_nothing() -> None:
    status, found = failover()

    assert status == 0, found
    assert found["answered_before_the_kill"] > 0
    faults = ("lost", "twice", "not_replayed", "contradicted", "unanswered")
    assert {name: found[name] for name in faults} == dict.fromkeys(faults, 0)


def test_what_is_lost_and_what_is_done_twice_is_seen() -> None:
    status, found = failover("--asynchronous", "--unprotected")

    assert status == 1, found
    assert found["lost"] > 0
    assert found["twice"] > 0
