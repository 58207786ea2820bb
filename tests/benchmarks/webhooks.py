"""Steps of the inbox's worker, and how much a second worker adds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

from django.db import connection, connections

from django_idempotency.webhooks.inbox import Step, process_next
from tests.benchmarks.timing import microseconds_each
from tests.benchmarks.webhooks import receivers
from tests.deliveries import deliver, stripe

__all__ = ["steps", "two_workers"]

TABLE = "django_idempotency_processedevent"


def steps(*, count: int, rounds: int) -> dict[str, float]:
    _fill(count)
    times = microseconds_each(
        {
            "ours": _succeeding(_step),
            "by_hand": _succeeding(receivers.step_by_hand),
            "by_hand_in_one_transaction": _succeeding(
                receivers.step_by_hand_in_one_transaction
            ),
        },
        count=count,
        rounds=rounds,
        before=_refill,
    )
    return {f"{name}_us": each for name, each in times.items()} | {
        "ratio": round(times["by_hand"] / times["ours"], 2),
        "ratio_to_one_transaction": round(
            times["by_hand_in_one_transaction"] / times["ours"], 2
        ),
    }


def two_workers(*, count: int, rounds: int) -> dict[str, float]:
    """Beside ours stands what the machine allows just now: the same by hand."""
    _fill(count)
    crews = {
        (name, number): step
        for name, step in (("ours", _step), ("by_hand", receivers.step_by_hand))
        for number in (1, 2)
    }
    times: dict[tuple[str, int], list[float]] = {crew: [] for crew in crews}
    for _ in range(rounds):
        for (name, number), step in crews.items():
            _refill()
            times[name, number].append(_seconds_of(number, step))
    medians = {crew: statistics.median(each) for crew, each in times.items()}
    return {
        "one_per_second": round(count / medians["ours", 1]),
        "two_per_second": round(count / medians["ours", 2]),
        "ratio": round(medians["ours", 1] / medians["ours", 2], 2),
        "ratio_by_hand": round(medians["by_hand", 1] / medians["by_hand", 2], 2),
    }


def _step() -> bool:
    return process_next() is not Step.NOTHING_DUE


def _succeeding(step: Callable[[], bool]) -> Callable[[], None]:
    def take() -> None:
        if not step():
            raise RuntimeError("There was nothing to do.")

    return take


def _fill(count: int) -> None:
    """Store so many events through the receiver, and keep a copy of the rows."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}; DROP TABLE IF EXISTS filled")
    for number in range(count):
        answer = deliver("/ours/", stripe(f"evt_{number}", padding="x" * 1500))
        if answer.status_code != 200:
            raise RuntimeError("The event was not stored.")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE filled AS SELECT * FROM {TABLE}")  # noqa: S608


def _refill() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"TRUNCATE {TABLE}, testapp_order;"  # noqa: S608
            f" INSERT INTO {TABLE} SELECT * FROM filled; ANALYZE {TABLE}"
        )


def _seconds_of(workers: int, step: Callable[[], bool]) -> float:
    """Return how long so many processes take to empty the inbox, once they are ready."""
    connections.close_all()  # a child must not share them
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()
    children = [_fork(step, ready_write, go_read) for _ in range(workers)]
    for _ in children:
        os.read(ready_read, 1)
    started = time.perf_counter()
    os.write(go_write, b"g" * workers)
    failures = [os.waitpid(child, 0)[1] for child in children]
    elapsed = time.perf_counter() - started
    for end in (ready_read, ready_write, go_read, go_write):
        os.close(end)
    if any(failures):
        raise RuntimeError("A worker has failed.")
    return elapsed


def _fork(step: Callable[[], bool], ready: int, go: int) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        connection.ensure_connection()
        os.write(ready, b"r")
        os.read(go, 1)
        while step():
            pass
        status = 0
    finally:
        os._exit(status)
