"""Program: what a stored delivery and a step of the worker cost, and against what.

    python -m tests.benchmarks.webhooks --json

Ours and the hand-written ones run turn by turn in this process, on one temporary
PostgreSQL (or on ``DATABASE_URL``). A ratio is theirs divided by ours: 1 is as fast as by
hand.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.benchmarks.command import run

GOALS = {"ingestion": 0.6, "step": 0.7, "two_workers": 1.5}


def main() -> int:
    return run(
        __doc__,
        {"count": 200, "rounds": 15},
        measured,
        settings="tests.benchmarks.webhooks.settings",
        server_settings={},
    )


def measured(*, count: int, rounds: int) -> dict[str, dict[str, Any]]:
    from tests.benchmarks.webhooks.ingestion import ingestion
    from tests.benchmarks.webhooks.steps import steps, two_workers

    figures: dict[str, dict[str, Any]] = {
        "ingestion": ingestion(count=count, rounds=rounds),
        "step": steps(count=count, rounds=rounds),
        "two_workers": two_workers(count=10 * count, rounds=max(1, rounds // 3)),
    }
    for name, goal in GOALS.items():
        figures[name]["goal"] = goal
    return figures


if __name__ == "__main__":
    sys.exit(main())
