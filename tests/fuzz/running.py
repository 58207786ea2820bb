"""A campaign: a process for each target, one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

PARTS = {
    **dict.fromkeys(("keys", "forms", "signatures", "events", "rows", "shown"), 1),
    **{"json": 2, "clients": 2, "at-rest": 5, "requests": 10},
    # A whole request is worth as much as twenty of what it is made of, and costs more.
    **{"site": 20, "receivers": 20},
}
"""The targets, and by what the number of inputs is divided."""


def campaign(
    names: Iterable[str], *, inputs: int, seed: int, more: Iterable[str] = ()
) -> dict[str, Any]:
    """Return what was found by target; a target without a fault tries all inputs."""
    results = [
        tried(
            name,
            "--inputs",
            str(max(1, inputs // PARTS[name])),
            "--seed",
            str(seed),
            *more,
        )
        for name in names
    ]
    return {
        "seed": seed,
        "inputs": sum(each["inputs"] for each in results),
        "seconds": round(sum(each["seconds"] for each in results), 1),
        "targets": results,
        "faults": [each for each in results if each["fault"]],
    }


def tried(name: str, *options: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, "-m", "tests.fuzz.trying", name]
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, "--result", str(result), *options],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=False,
        )
        if result.exists():
            found: dict[str, Any] = json.loads(result.read_text())
            return found
    # Such as 70: one input took longer than the fuzzer waits.
    fault = {"fault": f"the process ended with {done.returncode}", "input": ""}
    return {
        **{"target": name, "how": "", "inputs": 0, "seconds": 0.0},
        **{"outcomes": {}, "missing": [], "fault": fault},
    }
