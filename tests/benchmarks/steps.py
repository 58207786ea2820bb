"""Program: what a step costs behind many others of one operation.

    python -m tests.benchmarks.steps --steps 1500 --json

One leased operation goes through so many steps. Compared are its first and its last
hundred, in the same run; the median of several operations counts.
"""

import statistics
import sys
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from tests.benchmarks.harness import run

GOALS = {"ratio": 2.0}
"""At most."""

PART = 100


def main() -> int:
    return run(__doc__, {"steps": 1500, "rounds": 5}, measured)


def measured(*, steps: int, rounds: int) -> dict[str, Any]:
    from tests.benchmarks.rows import TABLE, asked

    kinds = {"call": _call, "write": _write}
    _milliseconds_each(_call, PART)  # not counted: connections, caches
    result: dict[str, Any] = {"steps": steps, "goals": GOALS}
    for name, step in kinds.items():
        parts: list[tuple[float, float]] = []
        for _ in range(rounds):
            asked(f"TRUNCATE {TABLE}")
            times = _milliseconds_each(step, steps)
            parts.append(
                (statistics.mean(times[:PART]), statistics.mean(times[-PART:]))
            )
        first, last = (statistics.median(each) for each in zip(*parts, strict=True))
        result[name] = {
            "first_hundred_ms": round(first, 3),
            "last_hundred_ms": round(last, 3),
            "ratio": round(statistics.median(b / a for a, b in parts), 2),
        }
    return result


def _milliseconds_each(step: Callable[[Any, str], Any], count: int) -> list[float]:
    """Return how long each step of one operation took."""
    from django_idempotency.tasks import current_operation, run_once

    times: list[float] = []

    def work() -> None:
        operation = current_operation()
        for number in range(count):
            began = time.perf_counter()
            step(operation, f"page {number}")
            times.append((time.perf_counter() - began) * 1000)

    run_once(f"pages:{uuid.uuid4()}", work, lease=timedelta(minutes=10))
    return times


def _call(operation: Any, name: str) -> None:
    operation.call(name, lambda key: {"id": key, "status": "sent"})


def _write(operation: Any, name: str) -> None:
    operation.write(name, lambda: {"id": name, "status": "sent"})


if __name__ == "__main__":
    sys.exit(main())
