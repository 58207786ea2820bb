"""Threads that act at the same moment, and ways to know what they are waiting for."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = 30.0
"""Seconds after which something that should happen has not."""

GATE = 20260101

AT_THE_GATE = ("advisory",)
AT_A_CLAIM = ("transactionid", "tuple", "spectoken")
"""What PostgreSQL calls the waits for an uncommitted insert or a locked row."""


@contextmanager
def crew() -> Iterator[ThreadPoolExecutor]:
    """Threads that are waited for at the end."""
    with ThreadPoolExecutor(max_workers=64) as threads:
        yield threads


def start(
    threads: ThreadPoolExecutor, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> Future[T]:
    """Begin to act in a thread, which closes its connections afterwards."""

    def run() -> T:
        try:
            return act(*args, **kwargs)
        finally:
            connections.close_all()

    return threads.submit(run)


def all_at_once(count: int, act: Callable[[int], T]) -> list[T]:
    """Act in so many threads, which meet before they begin."""
    barrier = threading.Barrier(count)

    def meet_and_act(number: int) -> T:
        barrier.wait(TIMEOUT)
        return act(number)

    with crew() as threads:
        futures = [start(threads, meet_and_act, number) for number in range(count)]
        return [future.result(TIMEOUT) for future in futures]


def connections_in_use() -> int:
    """How many of the pool's somebody has, or are just being made."""
    pool = connection.pool  # type: ignore[attr-defined]
    stats = pool.get_stats()
    in_use: int = stats["pool_size"] - stats["pool_available"]
    return in_use


@contextmanager
def second_connection() -> Iterator[BaseDatabaseWrapper]:
    """Another session of this thread at the same database."""
    other = connection.copy()
    try:
        yield other
    finally:
        other.close()


class Gate:
    """A gate that every view of the shop goes through; closed, it holds them there.

    It is a lock in the database, so that it holds other processes too, and so that
    pg_stat_activity tells who stands before it. It is a transaction's and not a
    session's: a pooler may give each statement another session.
    """

    def __init__(self, session: BaseDatabaseWrapper) -> None:
        self._session = session
        session.set_autocommit(False)
        with session.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [GATE])

    def open(self) -> None:
        self._session.rollback()


@contextmanager
def gate_closed() -> Iterator[Gate]:
    """The gate is open again at the end, whatever happens."""
    with second_connection() as session:
        yield Gate(session)


def go_through_the_gate() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [GATE])


def until(condition: Callable[[], bool], *, timeout: float = TIMEOUT) -> None:
    """Return when the condition holds.

    Raises:
        AssertionError: if that takes longer than so many seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not in {timeout:.0f} seconds"
        time.sleep(0.005)


def until_waiting(count: int, at: tuple[str, ...]) -> None:
    """Return when so many sessions of this database stand there."""
    until(lambda: waiting(at) >= count)


def waiting(at: tuple[str, ...]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock' AND wait_event = ANY(%s)",
            [list(at)],
        )
        count: int = cursor.fetchone()[0]
        return count
