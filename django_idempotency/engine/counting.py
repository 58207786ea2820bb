"""Counts what happens by the hour, beside the requests and never in them.

A request adds one to a number in this process's memory. A thread of its own writes the
numbers down every ten seconds, over a connection of its own that it closes again; what a
kill takes with it is what was counted since. A process that ends by itself writes them
at its end.
"""

from __future__ import annotations

import atexit
import logging
import multiprocessing
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import Error, connections

from django_idempotency import signals
from django_idempotency.core.operations import Operation
from django_idempotency.store import hours
from django_idempotency.store.dialects import trouble_of
from django_idempotency.store.dialects.base import Trouble
from django_idempotency.store.events import event_alias
from django_idempotency.store.hours import Tally
from django_idempotency.store.records import record_alias

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("django_idempotency")

UID = "django_idempotency.counts"
"""Under which the signals know who counts."""

INTERVAL_SECONDS = 10.0
PATIENCE_SECONDS = 5.0
"""How long the end of the process waits for the last numbers to be written."""

MOST_ENDPOINTS = 200
"""Within an hour, in one process; what comes to further ones is counted as `OTHER`."""
OTHER = "other"
MOST_LOOKED_UP = 1000
"""Rows that are looked at for one number."""

OF_OPERATIONS = (
    "claimed",
    "expired",
    "held",
    "in_flight",
    "kept",
    "mismatched",
    "possible_duplicate",
    "released",
    "replayed",
)
OF_EVENTS = (
    "event_dead",
    "event_duplicate",
    "event_failed",
    "event_ignored",
    "event_processed",
)
LOOKED_UP = frozenset({"replayed", "event_processed"})
"""Of which the rows say more than the signal: what it was about, how long it took."""

MOST_KEPT = 5000
"""Sums that wait while the database is away."""

# After these it is certain that nothing was written; after a connection that broke it
# isn't, and a number too low is better than one too high.
PASSING = frozenset({Trouble.BUSY, Trouble.CONFLICT, Trouble.TIMED_OUT})


class _Key(NamedTuple):
    database: object
    """Its name when this was counted: that of a test's database goes with the test."""
    hour: int
    endpoint: str
    outcome: str


class _Sum:
    """What was counted under one key."""

    __slots__ = ("count", "rows", "waited")

    def __init__(self) -> None:
        self.count = 0
        self.waited = 0.0
        self.rows: list[uuid.UUID] = []


class Counter:
    """The numbers of this process that are not written yet."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew, as in a child process: what was counted is its parent's."""
        self._lock = threading.Lock()
        self._sums: dict[tuple[Any, int, str, str], _Sum] = {}
        self._endpoints: dict[int, set[str]] = {}
        self._settings: dict[str, Any] = {}
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()
        self._has_warned = False

    def add(
        self, endpoint: str, outcome: str, waited: float, row_id: uuid.UUID
    ) -> None:
        hour = int(time.time()) // 3600
        with self._lock:
            if not self._sums:
                self._begin()
            key = (self._settings["NAME"], hour, endpoint, outcome)
            found = self._sums.get(key)
            if found is None:
                found = self._first(_Key(*key))
            found.count += 1
            found.waited += waited
            if outcome in LOOKED_UP and len(found.rows) < MOST_LOOKED_UP:
                found.rows.append(row_id)

    def _begin(self) -> None:
        # The same dictionary in all threads: Django's test runner renames the database
        # in it.
        self._settings = connections[record_alias()].settings_dict
        if self._thread is None and not _is_test_run():
            thread = threading.Thread(
                target=self._run, name="idempotency-counts", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # the interpreter ends, or allows no thread
                return
            self._thread = thread
            if multiprocessing.parent_process() is not None:
                # A child that was forked ends without what `atexit` was told.
                Finalize(None, self.close, exitpriority=0)

    def _first(self, key: _Key) -> _Sum:
        """Return the sum of a key that is new, or that of all further endpoints."""
        known = self._endpoints.setdefault(key.hour, set())
        if key.endpoint not in known:
            if len(known) >= MOST_ENDPOINTS:
                key = key._replace(endpoint=OTHER)
            else:
                known.add(key.endpoint)
        for earlier in [each for each in self._endpoints if each < key.hour]:
            del self._endpoints[earlier]
        return self._sums.setdefault(key, _Sum())

    def _run(self) -> None:
        while True:
            is_last = self._is_over.wait(INTERVAL_SECONDS)
            try:
                self._write()
            except Exception as error:
                # Once: it may be so for long, as before `migrate`.
                level = logging.INFO if self._has_warned else logging.WARNING
                self._has_warned = True
                logger.log(
                    level,
                    "Counts of the last seconds were not written: %s",
                    type(error).__name__,
                )
            if is_last:
                return

    def _write(self) -> None:
        try:
            if _is_test_run() or _is_in_memory():
                with self._lock:
                    self._sums = {}
            else:
                self.flush()
        finally:
            connections.close_all()  # this thread's own

    def flush(self) -> None:
        """Write what was counted, over the connection of the calling thread.

        Raises:
            django.db.Error: it was not written. If the database is away or busy, it will
                be with what is counted next.
        """
        with self._lock:
            sums, self._sums = self._sums, {}
        using = record_alias()
        connection = connections[using]
        name = connection.settings_dict["NAME"]
        # Never into another database than the one whose operations were counted.
        mine = {_Key(*key): each for key, each in sums.items() if key[0] == name}
        if not mine:
            return
        is_sent = False
        try:
            connection.ensure_connection()
            tallies = list(_tallies(mine, using))
            is_sent = True
            hours.add(tallies, using=using)
        except Error as error:
            if not is_sent or trouble_of(connection, error) in PASSING:
                self._take_back(mine)
            raise

    def _take_back(self, sums: dict[_Key, _Sum]) -> None:
        with self._lock:
            if len(self._sums) + len(sums) > MOST_KEPT:
                return
            for key, earlier in sums.items():
                found = self._sums.setdefault(key, _Sum())
                found.count += earlier.count
                found.waited += earlier.waited
                found.rows = [*earlier.rows, *found.rows][:MOST_LOOKED_UP]

    def close(self) -> None:
        """Let the thread write what is left, and end."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join(PATIENCE_SECONDS)


counter = Counter()


def install() -> None:
    """Count from now on."""
    for outcome in OF_OPERATIONS:
        connect(outcome, count_operation)
    for outcome in OF_EVENTS:
        connect(outcome, _count_event)
    atexit.register(counter.close)
    if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
        os.register_at_fork(after_in_child=counter.forget)


def connect(outcome: str, count: Callable[..., None]) -> None:
    # No partial: `send_robust()` logs the name of a receiver that raises, and would
    # itself raise, into the request, where there is none.
    def receive(**said: Any) -> None:
        count(outcome, **said)

    getattr(signals, outcome).connect(receive, weak=False, dispatch_uid=UID)


def count_operation(outcome: str, *, operation: Operation, **more: Any) -> None:
    waited = time.monotonic() - operation.course.begun
    counter.add(operation.endpoint, outcome, waited, operation.record_id)


def _count_event(outcome: str, *, event: Any, **more: Any) -> None:
    counter.add(event.endpoint, outcome, 0.0, event.row_id)


def _tallies(sums: dict[_Key, _Sum], using: str) -> Iterator[Tally]:
    for key, each in sums.items():
        known: Any = {
            "hour": key.hour,
            "endpoint": key.endpoint,
            "outcome": key.outcome,
        }
        if key.outcome == "event_processed":
            waits = hours.waits_of(each.rows, using=event_alias())
            mean = sum(waits) / len(waits) if waits else 0.0
            yield Tally(**known, count=each.count, waited=mean * each.count)
        elif key.outcome == "replayed":
            yield from _with_amounts(known, each, using)
        else:
            yield Tally(**known, count=each.count, waited=each.waited)


def _with_amounts(known: Any, each: _Sum, using: str) -> Iterable[Tally]:
    """One tally for each currency, and one for what is about no amount."""
    amounts = hours.amounts_of(set(each.rows), using=using)
    counts: dict[str, int] = {"": each.count}
    totals: dict[str, Any] = {}
    for row_id in each.rows:
        if row_id in amounts:
            amount, currency = amounts[row_id]
            counts[""] -= 1
            counts[currency] = counts.get(currency, 0) + 1
            totals[currency] = totals.get(currency, 0) + amount
    for currency, count in counts.items():
        if count:
            yield Tally(
                **known,
                count=count,
                waited=each.waited * count / each.count,
                currency=currency,
                amount=totals.get(currency, 0),
            )


def _is_test_run() -> bool:
    """Whether a test runner has replaced parts of Django: its databases come and go.

    A write of ours would stay after a test's rollback, or stand in the way of the end.
    """
    utils = sys.modules.get("django.test.utils")
    return hasattr(getattr(utils, "_TestState", None), "saved_data")


def _is_in_memory() -> bool:
    """Whether only the threads of one connection can reach the database."""
    connection: BaseDatabaseWrapper = connections[record_alias()]
    is_in_memory_db = getattr(connection, "is_in_memory_db", None)
    return is_in_memory_db is not None and bool(is_in_memory_db())
