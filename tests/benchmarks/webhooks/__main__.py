"""Program: what a stored delivery and a step of the worker cost, and against what.

    python -m tests.benchmarks.webhooks --json

Ours and the hand-written ones run turn by turn in this process, on one temporary
PostgreSQL (or on ``DATABASE_URL``). A ratio is theirs divided by ours: 1 is as fast as by
hand.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from typing import Any

from tests.standalone import set_up

GOALS = {"ingestion": 0.6, "step": 0.7, "two_workers": 1.5}


def main() -> int:
    options = _parsed(sys.argv[1:])
    with ExitStack() as stack:
        set_up(stack, "tests.benchmarks.webhooks.settings")
        result = _measured(options)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    for name, figures in result.items():
        sys.stdout.write(f"{name.replace('_', ' ')}\n")
        for what, figure in figures.items():
            sys.stdout.write(f"  {what.replace('_', ' '):<32}{figure:>10}\n")
    return 0


def _measured(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    from tests.benchmarks.webhooks.ingestion import ingestion
    from tests.benchmarks.webhooks.steps import steps, two_workers

    count, rounds = options.count, options.rounds
    figures: dict[str, dict[str, Any]] = {
        "ingestion": ingestion(count=count, rounds=rounds),
        "step": steps(count=count, rounds=rounds),
        "two_workers": two_workers(count=10 * count, rounds=max(1, rounds // 3)),
    }
    for name, goal in GOALS.items():
        figures[name]["goal"] = goal
    return figures


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=200, metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
