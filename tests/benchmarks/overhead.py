"""Program: what protection adds to a request, against what it costs by hand.

    python -m tests.benchmarks.overhead --json

Whole requests, one after the other, in one process: middleware, URL, view, database and
the closed response. All kinds take turns, on one temporary PostgreSQL that syncs its
commits (or on ``DATABASE_URL``). Times are medians, in microseconds.
"""

import itertools
import sys
import uuid
from collections.abc import Callable
from copy import copy
from typing import Any

from tests.benchmarks.harness import microseconds_each, post, run

BODY = b'{"amount": 5}'

BUDGET = {
    "first": 1.45,
    "drf_first": 1.6,
    "replay": 1.4,
    "replay_to_plain": 0.6,
    "replay_unseen_to_plain": 1.05,
}
"""Ratios; at most."""


def main() -> int:
    options = {"count": 100, "rounds": 30}
    return run(__doc__, options, measured)


def measured(*, count: int, rounds: int) -> dict[str, Any]:
    from django.test import override_settings

    from tests.benchmarks.shop import FLOOR_SQL

    ways = {
        "plain": first_calls("/plain/"),
        "floor_first": first_calls("/by-hand/"),
        "floor_replay": repeats("/repeat-by-hand/", of="/by-hand/"),
        "view_first": first_calls("/protected/"),
        "view_replay": repeats("/protected/"),
        "view_replay_counted": _counted(repeats("/protected/")),
        "view_replay_unseen": _answered_elsewhere(
            "/protected/", count * (rounds + 1) + 1
        ),
        "empty": _unkeyed("/empty/"),
        "unkeyed": _unkeyed("/optional/"),
        "drf_plain": first_calls("/drf-plain/"),
        "drf_first": first_calls("/drf/"),
        "drf_replay": repeats("/drf/"),
    }
    # A replay is counted after the answer has been sent; only one way waits for that.
    with override_settings(IDEMPOTENCY_COUNT_REPLAYS=False):
        statements = {name: statements_of(act) for name, act in ways.items()}
        times = microseconds_each(ways, count=count, rounds=rounds)
    return {
        **{f"{name}_us": time for name, time in times.items()},
        "ratios": _ratios(times),
        "budget": BUDGET,
        "statements": statements,
        "floor_sql": FLOOR_SQL,
    }


def _ratios(times: dict[str, float]) -> dict[str, float]:
    floor_adds = times["floor_first"] - times["plain"]
    ratios = {
        "first": (times["view_first"] - times["plain"]) / floor_adds,
        "drf_first": (times["drf_first"] - times["drf_plain"]) / floor_adds,
        "replay": times["view_replay"] / times["floor_replay"],
        "replay_to_plain": times["view_replay"] / times["plain"],
        "replay_unseen_to_plain": times["view_replay_unseen"] / times["plain"],
    }
    return {name: round(ratio, 2) for name, ratio in ratios.items()}


def _send(path: str, key: str | None, status: int = 201) -> None:

    headers = {} if key is None else {"Idempotency-Key": key}
    found, _ = post(path, BODY, headers)
    if found != status:
        raise RuntimeError(f"{path} answered {found}")


def first_calls(path: str) -> Callable[[], None]:
    return lambda: _send(path, str(uuid.uuid4()))


def repeats(path: str, *, of: str = "") -> Callable[[], None]:
    """Of keys that this process has answered, one after the other."""
    keys = [str(uuid.uuid4()) for _ in range(20)]
    for key in keys:
        _send(of or path, key)
    turns = itertools.cycle(keys)
    return lambda: _send(path, next(turns))


def _counted(act: Callable[[], None]) -> Callable[[], None]:
    from django_idempotency.conf import conf

    def counted() -> None:
        # What it remembers of the setting: to override that would be timed as well.
        vars(conf)["IDEMPOTENCY_COUNT_REPLAYS"] = True
        act()
        vars(conf)["IDEMPOTENCY_COUNT_REPLAYS"] = False

    return counted


def _unkeyed(path: str) -> Callable[[], None]:
    return lambda: _send(path, None, status=200)


def _answered_elsewhere(path: str, count: int) -> Callable[[], None]:
    """Repeats of keys that this process knows nothing of, each of them once."""
    from django_idempotency.core.operations import Scope, record_id_of
    from django_idempotency.models import IdempotencyRecord

    _send(path, key := str(uuid.uuid4()))
    record = IdempotencyRecord.objects.get(key=key)
    scope = Scope(principal="anonymous", method=record.method, path=record.path)
    keys = [str(uuid.uuid4()) for _ in range(count)]
    copies = []
    for key in keys:
        record = copy(record)
        record.id, record.key = record_id_of(scope, key), key
        copies.append(record)
    IdempotencyRecord.objects.bulk_create(copies)
    unused = iter(keys)
    return lambda: _send(path, next(unused))


def statements_of(act: Callable[[], None]) -> list[str]:
    """The first words of the statements of one request; BEGIN and COMMIT aren't seen."""
    from django.db import connection

    statements: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        statements.append(" ".join(sql.split()[:3]))
        return execute(sql, *args)

    with connection.execute_wrapper(note):
        act()
    return statements


if __name__ == "__main__":
    sys.exit(main())
