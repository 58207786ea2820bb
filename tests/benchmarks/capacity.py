"""Program: what one PostgreSQL carries.

    python -m tests.benchmarks.capacity --json

Processes that do nothing but claim keys and keep answers of 200 bytes, then nothing but
replay them, as fast as they can. What the server spends is measured by the processor time
of its own processes, so that what the clients take from the same cores doesn't count; the
figures of a day are reckoned from that.
"""

import multiprocessing
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psutil

from tests.benchmarks.harness import run

CALLS_PER_SECOND = (100, 1_000, 10_000)
RETENTION_SECONDS = 48 * 60 * 60
ANSWER_BYTES = 200


def main() -> int:
    return run(__doc__, {"clients": 8, "seconds": 20}, measured)


def measured(*, clients: int, seconds: int) -> dict[str, Any]:
    from tests.benchmarks.rows import TABLE, asked, sizes

    asked(f"TRUNCATE {TABLE}")
    asked("CHECKPOINT")
    first = _carried("first", clients, seconds)
    records = asked(f"SELECT count(*) FROM {TABLE}")  # noqa: S608
    record_bytes = sum(sizes().values()) / records
    replay = _carried("replay", clients, seconds)
    return {
        "clients": clients,
        "first": first,
        "replay": replay,
        "bytes_per_record": round(record_bytes),
        "reckoned": {
            f"{rate}_per_second": {
                "server_cores": round(rate / first["per_server_core"], 2),
                "wal_mb_per_second": round(rate * first["wal_bytes"] / 1e6, 2),
                "wal_gb_per_day": round(rate * first["wal_bytes"] * 86_400 / 1e9, 1),
                "records_gb": round(rate * RETENTION_SECONDS * record_bytes / 1e9, 1),
            }
            for rate in CALLS_PER_SECOND
        },
    }


def _carried(kind: str, clients: int, seconds: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(clients) as pool, _costs() as costs:
        began = time.monotonic()
        counts = pool.starmap(_busy, [(kind, seconds)] * clients, chunksize=1)
        took = time.monotonic() - began
        pool.close()
        pool.join()  # the processes of the server end with their clients
    count = sum(counts)
    server_us = costs["cpu_seconds"] / count * 1e6
    return {
        "per_second": round(count / took),
        "server_cpu_us": round(server_us),
        "per_server_core": round(1e6 / server_us),
        "wal_bytes": round(costs["wal_bytes"] / count),
    }


@contextmanager
def _costs() -> Iterator[dict[str, float]]:
    """Fill in what the server has spent meanwhile."""
    from tests.benchmarks.rows import asked

    postmaster = psutil.Process(asked("SELECT pg_backend_pid()")).parent()
    assert postmaster is not None
    position = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
    cpu, wal = _cpu_seconds(postmaster), asked(position)
    costs: dict[str, float] = {}
    yield costs
    costs["wal_bytes"] = float(asked(position) - wal)
    serving = (
        "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    )
    while asked(serving) > 1:
        time.sleep(0.05)  # until only this connection's process is left
    costs["cpu_seconds"] = _cpu_seconds(postmaster) - cpu


def _cpu_seconds(postmaster: psutil.Process) -> float:
    times = postmaster.cpu_times()
    living = [each.cpu_times() for each in postmaster.children()]
    return float(
        times.children_user
        + times.children_system
        + sum(each.user + each.system for each in living)
    )


def _busy(kind: str, seconds: float) -> int:
    """Work for so long, in a process of its own; return how often it was done."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
    django.setup()
    act = _acts()[kind]
    act()
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        act()
        count += 1
    return count


def _acts() -> dict[str, Callable[[], object]]:
    from django_idempotency.conf import conf
    from django_idempotency.engine import atomic as engine
    from django_idempotency.engine.work import Outcome
    from tests.support.values import ANSWER, OPERATION

    answer = replace(
        ANSWER,
        headers=(("Content-Type", "application/json"),),
        body=b"x" * ANSWER_BYTES,
    )
    done = Outcome(value=None, commits=True, answer=answer)
    defaults = replace(
        OPERATION, wait=conf.IDEMPOTENCY_WAIT, retention=conf.IDEMPOTENCY_RETENTION
    )

    def ask(key: str) -> object:
        operation = replace(defaults, key=key)
        return engine.run(operation, lambda steps: done, failure_of=lambda error: None)

    known = str(uuid.uuid4())
    return {"first": lambda: ask(str(uuid.uuid4())), "replay": lambda: ask(known)}


if __name__ == "__main__":
    sys.exit(main())
