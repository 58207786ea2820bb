"""Program: what a stored delivery, a step of the worker and a batch cost, and against what.

    python -m tests.benchmarks.webhooks --json

Ours and the hand-written ones run turn by turn in this process, on one temporary
PostgreSQL (or on ``DATABASE_URL``). A ratio is theirs divided by ours: 1 is as fast as by
hand.
"""

import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from django.db import connection, connections

from tests.benchmarks.harness import microseconds_each, post, run
from tests.support.deliveries import deliver, gocardless, stripe

GOALS = {"ingestion": 0.6, "step": 0.7, "two_workers": 1.5, "batch": 0.7}
"""At least."""

SLOWER = 1.3
"""At most, for one stuck object of an ordered receiver: with its followers ÷ without."""

TABLE = "django_idempotency_processedevent"


def main() -> int:
    options = {"count": 200, "rounds": 15, "followers": 20_000}
    return run(__doc__, options, measured, server_settings={})


def measured(*, count: int, rounds: int, followers: int) -> dict[str, dict[str, Any]]:
    from django.test import override_settings

    urls = "tests.benchmarks.receivers"
    with override_settings(ROOT_URLCONF=urls, MIDDLEWARE=[]):
        figures: dict[str, dict[str, Any]] = {
            "ingestion": _ingestion(count=count, rounds=rounds),
            "step": _steps(count=count, rounds=rounds),
            "two_workers": _two_workers(count=10 * count, rounds=max(1, rounds // 3)),
            "batch": _batch(250),
        }
        stuck = _stuck(count=count // 4, rounds=rounds, followers=followers)
    for name, goal in GOALS.items():
        figures[name]["goal"] = goal
    return figures | {"stuck_object": stuck | {"goal": SLOWER}}


def _compared(times: dict[str, float]) -> dict[str, float]:
    return {f"{name}_us": each for name, each in times.items()} | {
        "ratio": round(times["by_hand"] / times["ours"], 2),
    }


def _ingestion(*, count: int, rounds: int) -> dict[str, float]:
    """Whole requests: from the WSGI environment to the answer, with the event stored."""
    numbers = itertools.count()

    def delivering_to(path: str) -> Callable[[], None]:
        def deliver() -> None:
            sent = stripe(f"evt_{next(numbers)}", padding="x" * 1500)
            status, _ = post(path, sent.body, sent.headers)
            if status != 200:
                raise RuntimeError(f"{path} has not stored the event")

        return deliver

    ways = {"ours": delivering_to("/ours/"), "by_hand": delivering_to("/by-hand/")}
    return _compared(microseconds_each(ways, count=count, rounds=rounds))


def _steps(*, count: int, rounds: int) -> dict[str, float]:
    """Steps of the inbox's worker."""
    from tests.benchmarks.receivers import STEPS

    _fill(count)
    ways = {name: _succeeding(step) for name, step in STEPS.items()}
    return _compared(
        microseconds_each(ways, count=count, rounds=rounds, before=_refill)
    )


def _two_workers(*, count: int, rounds: int) -> dict[str, float]:
    """How much a second one adds; beside ours stands what the machine allows just now."""
    from tests.benchmarks.receivers import STEPS

    _fill(count)
    times: dict[tuple[str, int], list[float]] = {
        (name, number): [] for name in STEPS for number in (1, 2)
    }
    for _ in range(rounds):
        for (name, number), seconds in times.items():
            _refill()
            seconds.append(_seconds_of(number, STEPS[name]))
    medians = {crew: statistics.median(each) for crew, each in times.items()}
    return {
        "one_per_second": round(count / medians["ours", 1]),
        "two_per_second": round(count / medians["ours", 2]),
        "ratio": round(medians["ours", 1] / medians["ours", 2], 2),
        "ratio_by_hand": round(medians["by_hand", 1] / medians["by_hand", 2], 2),
    }


def _stuck(*, count: int, rounds: int, followers: int) -> dict[str, float]:
    """Steps and idle polls beside an object whose first event fails and fails."""
    from tests.benchmarks.receivers import step

    _fill(count)
    times: dict[str, list[float]] = {}

    def clock(name: str, act: Callable[[], object]) -> None:
        started = time.perf_counter()
        act()
        times.setdefault(name, []).append((time.perf_counter() - started) * 1e6)

    def steps() -> None:
        for _ in range(count):
            _succeeding(step)()

    def polls() -> None:
        for _ in range(count):
            if step():
                raise RuntimeError("There was something to do.")

    for number in range(rounds + 1):
        for crowd in (0, followers) if number % 2 else (followers, 0):
            _empty()
            _add_stuck_object(crowd)
            clock(f"first_look_{crowd}", step)
            _add_filled()
            clock(f"step_{crowd}", steps)
            clock(f"idle_{crowd}", polls)
    medians = {name: statistics.median(each) for name, each in times.items()}
    return {
        "followers": followers,
        "first_look_ms": round(medians[f"first_look_{followers}"] / 1000),
        "step_us": round(medians[f"step_{followers}"] / count),
        "step_without_us": round(medians["step_0"] / count),
        "step": round(medians[f"step_{followers}"] / medians["step_0"], 2),
        "idle_us": round(medians[f"idle_{followers}"] / count),
        "idle_without_us": round(medians["idle_0"] / count),
        "idle": round(medians[f"idle_{followers}"] / medians["idle_0"], 2),
    }


def _batch(count: int) -> dict[str, float]:
    """How many bytes are stored of a batch; a ratio of 1 is its body, once."""
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}")
        batch = gocardless(*(f"EV{number:022}" for number in range(count)))
        if deliver("/batch/", batch).status_code != 204:
            raise RuntimeError("The batch was not stored.")
        cursor.execute(f"SELECT count(*), sum(length(payload)) FROM {TABLE}")  # noqa: S608
        rows, stored = cursor.fetchone()
    if rows != count:
        raise RuntimeError(f"{rows} of {count} events were stored.")
    return {
        "body_bytes": len(batch.body),
        "stored_bytes": stored,
        "ratio": round(len(batch.body) / stored, 2),
    }


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
    _empty()
    _add_filled()


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE}, testapp_order")


def _add_filled() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} SELECT * FROM filled; ANALYZE {TABLE}"  # noqa: S608
        )


def _add_stuck_object(followers: int) -> None:
    """Its first event is tried again tomorrow; the others have been due for an hour."""
    if not followers:
        return
    from django_idempotency.models import ProcessedEvent

    names = [str(field.column) for field in ProcessedEvent._meta.concrete_fields]
    values = {
        "id": "gen_random_uuid()",
        "object_key": "'stuck'",
        "received_at": "now() - interval '1 hour' + n * interval '1 millisecond'",
        "next_attempt_at": "CASE n WHEN 0 THEN now() + interval '1 day'"
        " ELSE now() - interval '1 hour' + n * interval '1 millisecond' END",
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} ({', '.join(names)})"  # noqa: S608
            f" SELECT {', '.join(values.get(name, name) for name in names)}"
            f" FROM (SELECT * FROM filled LIMIT 1) AS one, generate_series(0, %s) AS n;"
            f" ANALYZE {TABLE}",
            [followers],
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


if __name__ == "__main__":
    sys.exit(main())
