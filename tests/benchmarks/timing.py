"""Several ways to do a thing, timed turn by turn, so that all meet the same weather."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

__all__ = ["microseconds_each"]


def _nothing() -> None: ...


def microseconds_each(
    ways: dict[str, Callable[[], None]],
    *,
    count: int,
    rounds: int,
    before: Callable[[], None] = _nothing,
) -> dict[str, float]:
    """Return the median time per operation of each way.

    A round does the thing `count` times in each way; `before` each, untimed, comes the
    preparation. The first round isn't counted.
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(rounds + 1):
        for name in names if number % 2 else reversed(names):
            before()
            gc.collect()
            started = time.perf_counter()
            for _ in range(count):
                ways[name]()
            elapsed = time.perf_counter() - started
            if number:
                times[name].append(elapsed / count * 1e6)
    return {name: round(statistics.median(each), 1) for name, each in times.items()}
