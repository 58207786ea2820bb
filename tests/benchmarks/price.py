"""Program: what the data for people costs a first call: history, references, links, counts.

    python -m tests.benchmarks.price --json

Whole requests, one after the other in one process, on one temporary PostgreSQL (or on
``DATABASE_URL``). Each kind of data is switched off in turn, beside the same with it; a
ratio is the CPU of this process for a whole first call with everything, divided by that
without this kind. Under ``links`` is also the INSERT of those that a leased call has.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from tests.benchmarks.harness import run
from tests.benchmarks.overhead import first_calls, statements_of

BUDGET = 1.05
"""Of all together; at most."""

BATCH = 10
"""Requests between two switches."""

KINDS = ("history", "times of steps", "references", "links", "counts")
VIEWS = {"atomic": "/protected/", "leased": "/leased/"}


def main() -> int:
    # Not durable: what a COMMIT waits for is the same with and without.
    return run(__doc__, {"rounds": 100}, measured, server_settings={})


def measured(*, rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {"budget": BUDGET}
    _let_count(True)
    for name, path in VIEWS.items():
        call = first_calls(path)
        ways = {f"without {kind}": _batch(call, kind) for kind in KINDS}
        ways["without any"] = _batch(call, *KINDS)
        result[name] = {
            "statements": statements_of(call),
            "ratios": _ratios(_batch(call), ways, rounds),
        }
    return result


def _ratios(
    whole: Callable[[], None], ways: dict[str, Callable[[], None]], rounds: int
) -> dict[str, float]:
    """Compare each way with the whole beside it, round by round: the median counts."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            first, second = (whole, way) if number % 2 else (way, whole)
            took = {act: _seconds(act) for act in (first, second)}
            if number:
                found[name].append(took[whole] / took[way])
    return {name: round(statistics.median(each), 3) for name, each in found.items()}


def _seconds(act: Callable[[], None]) -> float:
    gc.collect()
    began = time.process_time()
    act()
    return time.process_time() - began


def _batch(call: Callable[[], None], *kinds: str) -> Callable[[], None]:
    def calls() -> None:
        with ExitStack() as stack:
            for kind in kinds:
                stack.enter_context(_without(kind))
            for _ in range(BATCH):
                call()

    return calls


@contextmanager
def _without(kind: str) -> Iterator[None]:
    from django_idempotency.core import journal
    from django_idempotency.core.operations import Operation
    from django_idempotency.engine.links import Links
    from django_idempotency.store import records

    with ExitStack() as stack:
        if kind == "counts":
            _let_count(False)
            stack.callback(_let_count, True)
        else:
            place, name, nothing = {
                "history": (records, "noted_claim", _nothing),
                "times of steps": (journal, "now_text", _nothing),
                "references": (Operation, "reference", ""),
                "links": (Links, "add", _nothing),
            }[kind]
            stack.enter_context(patch.object(place, name, nothing))
        yield


def _let_count(on: bool) -> None:
    from django_idempotency import signals
    from django_idempotency.engine import counting

    for outcome in counting.OF_OPERATIONS:
        signal = getattr(signals, outcome)
        signal.disconnect(dispatch_uid=counting.UID)
        if on:
            counting.connect(outcome, counting.count_operation)


def _nothing(*args: Any) -> str:
    return ""


if __name__ == "__main__":
    sys.exit(main())
