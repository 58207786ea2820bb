"""Program: what a large table changes, and what a record costs to keep.

    python -m tests.benchmarks.scale --rows 1000000 --json

First calls and repeats on an empty table, on one with so many rows, and on an empty one
again; a ratio is large divided by the mean of the empty ones. WAL is what protection adds
to a first call, just after a checkpoint, when each page that is touched is logged as a
whole, and without those.
"""

import statistics
import sys
import time
from typing import Any

from tests.benchmarks.harness import microseconds_each, run

GOALS = {"ratio": 1.15, "hot_updates": 0.95}
"""At most, and at least."""


def main() -> int:
    return run(__doc__, {"rows": 1_000_000, "count": 200, "rounds": 15}, measured)


def measured(*, rows: int, count: int, rounds: int) -> dict[str, Any]:
    from tests.benchmarks.overhead import first_calls, repeats
    from tests.benchmarks.rows import TABLE, asked, fill, sizes

    def times() -> dict[str, float]:
        ways = {"first": first_calls("/protected/"), "replay": repeats("/protected/")}
        return microseconds_each(ways, count=count, rounds=rounds)

    before = times()
    hot = _share_of_hot_updates()
    asked(f"TRUNCATE {TABLE}")
    fill(rows, expires="48 hours")
    size = sizes()
    large = times()
    wal = {"with_full_pages": _wal_of_first_call(count)}
    _write_no_full_pages()
    wal["without"] = _wal_of_first_call(count)
    asked(f"TRUNCATE {TABLE}")
    after = times()
    return {
        "rows": rows,
        "empty_us": before,
        "large_us": large,
        "empty_again_us": after,
        "ratios": {
            name: round(large[name] / statistics.mean([before[name], after[name]]), 2)
            for name in large
        },
        "bytes_per_row": {name: round(each / rows, 1) for name, each in size.items()},
        "wal_bytes_per_first_call": wal,
        "hot_updates": hot,
        "goals": GOALS,
    }


def _wal_of_first_call(count: int) -> int:
    """Bytes that protection adds."""
    from tests.benchmarks.overhead import first_calls
    from tests.benchmarks.rows import asked

    asked("CHECKPOINT")
    written: list[int] = []
    for path in ("/plain/", "/protected/"):
        act = first_calls(path)
        position = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
        before = asked(position)
        for _ in range(count):
            act()
        written.append(int(asked(position) - before))
    return round((written[1] - written[0]) / count)


def _write_no_full_pages() -> None:
    """As between two checkpoints, once every page has been written to."""
    from tests.benchmarks.rows import asked

    asked("ALTER SYSTEM SET full_page_writes = off")
    asked("SELECT pg_reload_conf()")
    while asked("SHOW full_page_writes") != "off":
        time.sleep(0.01)


def _share_of_hot_updates() -> float:
    from tests.benchmarks.rows import TABLE, asked

    asked("SELECT pg_stat_force_next_flush()")
    share = asked(
        "SELECT n_tup_hot_upd::float / n_tup_upd FROM pg_stat_user_tables"
        " WHERE relname = %s",
        TABLE,
    )
    return round(float(share), 3)


if __name__ == "__main__":
    sys.exit(main())
