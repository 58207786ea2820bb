"""Program: deleting old records, against one hand-written batched DELETE.

    python -m tests.benchmarks.purge --rows 1000000 --json

Ours is the command ``purge_idempotency_keys``, with its defaults. Its memory is how much
higher the peak of a process is with all the rows than with 10,000 of them. The times of
first calls are those of another process, on a quiet table and while the command runs.
"""

import io
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.harness import run

GOALS = {"rate": 0.85, "memory_mb": 10, "p99": 1.5}
"""A ratio at least, megabytes at most, a ratio at most."""

FEW = 10_000
BATCH = 5000

# What somebody would write who knows PostgreSQL.
BY_HAND = (
    "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table}"
    " WHERE expires_at <= now() LIMIT %s FOR UPDATE SKIP LOCKED))"
)


def main() -> int:
    return run(__doc__, {"rows": 1_000_000, "rounds": 3}, measured)


def measured(*, rows: int, rounds: int) -> dict[str, Any]:
    from tests.benchmarks.rows import TABLE, asked, fill, sizes

    rates: dict[str, list[float]] = {"ours": [], "by_hand": []}
    ways: list[tuple[str, Callable[[], object]]] = [
        ("ours", _purge),
        ("by_hand", _delete_by_hand),
    ]
    for number in range(rounds):
        for name, act in ways if number % 2 else reversed(ways):
            asked(f"TRUNCATE {TABLE}")
            fill(rows, expires="-49 hours")
            began = time.perf_counter()
            act()
            rates[name].append(rows / (time.perf_counter() - began))
    before = sizes()
    asked(f"VACUUM {TABLE}")
    after = sizes()
    per_second = {name: round(statistics.median(each)) for name, each in rates.items()}
    return {
        "rows": rows,
        "rows_per_second": per_second,
        "rate": round(per_second["ours"] / per_second["by_hand"], 2),
        "memory_mb": _memory(rows),
        "first_calls": _first_calls_meanwhile(rows),
        "bytes_before_vacuum": before,
        "bytes_after_vacuum": after,
        "goals": GOALS,
    }


def _purge() -> None:
    from django.core.management import call_command

    call_command("purge_idempotency_keys", stdout=io.StringIO())


def _delete_by_hand() -> None:
    from django.db import connection

    from tests.benchmarks.rows import TABLE

    with connection.cursor() as cursor:
        while True:
            cursor.execute(BY_HAND.format(table=TABLE), [BATCH])
            if not cursor.rowcount:
                return


def _memory(rows: int) -> float:
    """How many megabytes more the command needs for many rows than for few."""
    from tests.benchmarks.rows import TABLE, asked, fill

    peaks: list[float] = []
    for number in (FEW, rows):
        asked(f"TRUNCATE {TABLE}")
        fill(number, expires="-49 hours")
        with _program("purging") as process:
            peaks.append(json.loads(process.communicate()[0]))
    return round(peaks[1] - peaks[0], 1)


def _first_calls_meanwhile(rows: int) -> dict[str, float]:
    from tests.benchmarks.rows import TABLE, asked, fill

    p99 = {}
    for name in ("quiet", "during_purge"):
        asked(f"TRUNCATE {TABLE}")
        fill(rows, expires="-49 hours")
        with _program("calling") as process:
            if name == "quiet":
                time.sleep(5)
            else:
                _purge()
            times = sorted(json.loads(process.communicate(input="stop")[0]))
        p99[f"{name}_p99_us"] = round(times[int(0.99 * len(times))])
    return {**p99, "ratio": round(p99["during_purge_p99_us"] / p99["quiet_p99_us"], 2)}


@contextmanager
def _program(part: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(  # noqa: S603 - this program
        [sys.executable, "-m", "tests.benchmarks.purge", part],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _purging() -> float:
    """Purge, and return the peak of this process in megabytes."""
    import resource

    _purge()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _calling() -> list[float]:
    """Send first calls until something is said; return their times in microseconds."""
    import threading

    from tests.benchmarks.overhead import first_calls

    is_over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        is_over.set()

    threading.Thread(target=listen).start()
    act, times = first_calls("/protected/"), []
    while not is_over.is_set():
        began = time.perf_counter()
        act()
        times.append((time.perf_counter() - began) * 1e6)
    return times


def _part(act: Callable[[], Any]) -> int:
    """Do this in the environment that the program has prepared."""
    import django
    from django.test.utils import setup_test_environment

    django.setup()
    setup_test_environment(debug=False)
    sys.stdout.write(json.dumps(act()))
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["purging"]:
            sys.exit(_part(_purging))
        case ["calling"]:
            sys.exit(_part(_calling))
        case _:
            sys.exit(main())
