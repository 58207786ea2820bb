"""Program: requests per second of a protected view, against the same one unprotected.

    python -m tests.benchmarks.throughput --json

One, two and four gunicorn workers (one request at a time each) and sixteen clients, which
share the processors with them. Plain and protected take turns; a ratio is protected
divided by plain. ``new``: a new key each, and ``new_by_hand`` the same by the floor of
`overhead` in our place; ``repeats``: one request in ten repeats an earlier key; ``storm``:
all send one key to a view that costs five milliseconds.
"""

import itertools
import random
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.benchmarks.harness import run
from tests.support.client import post_to
from tests.support.servers.gunicorn import gunicorn

CLIENTS = 16
GOALS = {"new": 0.75, "storm": 1.5}
"""Ratios; at least."""

Key = Callable[[], str]


def main() -> int:
    return run(__doc__, {"seconds": 3, "rounds": 3}, measured)


def measured(*, seconds: int, rounds: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for workers in (1, 2, 4):
        with gunicorn(workers=workers, threads=1) as address:
            result[f"workers_{workers}"] = {
                name: _compared(address, paths, keys, seconds, rounds)
                for name, paths, keys in KINDS
            }
    return result | {"goals": GOALS}


def _new() -> Key:
    return lambda: str(uuid.uuid4())


def _repeating() -> Key:
    sent = [str(uuid.uuid4())]
    choose = random.Random(1)  # noqa: S311 - which requests are repeats

    def key() -> str:
        if choose.random() < 0.1:
            return choose.choice(sent)
        sent.append(str(uuid.uuid4()))
        return sent[-1]

    return key


def _same() -> Key:
    return itertools.repeat(str(uuid.uuid4())).__next__


KINDS = [
    ("new", ("/plain/", "/protected/"), _new),
    ("new_by_hand", ("/plain/", "/by-hand/"), _new),
    ("repeats", ("/plain/", "/protected/"), _repeating),
    ("storm", ("/plain-slow/", "/protected-slow/"), _same),
]


def _compared(
    address: str,
    paths: tuple[str, str],
    keys: Callable[[], Key],
    seconds: int,
    rounds: int,
) -> dict[str, Any]:
    runs: dict[str, list[dict[str, float]]] = {"plain": [], "protected": []}
    for number in range(rounds):
        turns = list(zip(runs, paths, strict=True))
        for name, path in turns if number % 2 else reversed(turns):
            runs[name].append(_loaded(address, path, keys, seconds))
    figures: dict[str, Any] = {
        name: {
            what: round(statistics.median(each[what] for each in of_one), 1)
            for what in of_one[0]
        }
        for name, of_one in runs.items()
    }
    ratio = figures["protected"]["per_second"] / figures["plain"]["per_second"]
    return {"ratio": round(ratio, 2), **figures}


def _loaded(
    address: str, path: str, keys: Callable[[], Key], seconds: int
) -> dict[str, float]:
    """Keep all clients busy so long; return what they have seen."""
    storm = keys()  # one for all, where it is the same for all
    end = time.monotonic() + seconds

    def client(_: int) -> list[float]:
        key = storm if keys is _same else keys()
        times = []
        while time.monotonic() < end:
            began = time.perf_counter()
            _send(address, path, key())
            times.append((time.perf_counter() - began) * 1000)
        return times

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as threads:
        times = sorted(
            itertools.chain.from_iterable(threads.map(client, range(CLIENTS)))
        )
    took = time.monotonic() - began
    return {
        "per_second": len(times) / took,
        "p50_ms": statistics.median(times),
        "p99_ms": times[int(0.99 * len(times))],
    }


def _send(address: str, path: str, key: str) -> None:
    answer = post_to(address, path, key, amount=5, timeout=60)
    if answer.status != 201:
        raise RuntimeError(f"{path} answered {answer.status}")


if __name__ == "__main__":
    sys.exit(main())
