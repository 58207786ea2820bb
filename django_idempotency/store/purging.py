"""Deletes expired rows, in batches so small that nobody has to wait for them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from operator import itemgetter
from typing import Any, TypeVar

from django.db import Error, connections, transaction

from .dialects import dialect_of, trouble_of
from .dialects.base import Batch, Trouble
from .intents import intent_statements
from .statements import event_statements, record_statements

T = TypeVar("T")

A_TRY = timedelta(seconds=1)
"""How long one try waits for the lock that covers a whole database (SQLite)."""

A_BATCH = timedelta(seconds=2)
"""How long a batch may take, and wait for a row, before its rows are taken one by one."""

A_PAGE = 500

BEFORE_ALL: tuple[Any, ...] = (uuid.UUID(int=0), "-infinity")

WhenBusy = Callable[[], None] | None

LOCKED = frozenset({Trouble.CONFLICT, Trouble.TIMED_OUT})
IN_THE_WAY = frozenset({Trouble.BUSY, Trouble.TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Purge:
    """The rows that had expired for `cutoff` or longer when the purge began.

    They are deleted, or, where it is remembered that something was done, they lose their
    answer: see Note [Tombstones].

    Rows that are claimed or renewed meanwhile expire later and are left alone, as are
    held records, live leases, events that wait in the inbox or were given up, and
    locked rows.

    While others keep the database busy, it tries again: it is in no hurry. `when_busy` is
    called between two tries, and may raise to give up; without it the error is raised.
    """

    using: str
    counting: str
    acting: Batch
    """The statements on the table to purge."""
    cutoff: str
    """An instant in the database's own spelling."""
    when_busy: WhenBusy = None
    sieve: Callable[[Collection[Any]], Collection[Any]] | None = None
    """Leaves of the ids that were found those that may be purged."""

    @classmethod
    def of_records(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """The records, by the database's clock."""
        own = record_statements(dialect_of(connections[using]))
        since = cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_expired, own.purge, since, when_busy)

    @classmethod
    def of_answers(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """The answers of records of which a tombstone is left, by the same clock."""
        own = record_statements(dialect_of(connections[using]))
        since = cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_to_shorten, own.shorten, since, when_busy)

    @classmethod
    def of_events(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """The webhook events, by the database's clock."""
        own = event_statements(dialect_of(connections[using]))
        since = cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_expired, own.purge, since, when_busy)

    @classmethod
    def of_intents(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """Who was the first to ask for something, by the same clock."""
        own = intent_statements(dialect_of(connections[using]))
        since = cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_expired, own.purge, since, when_busy)

    def count(self) -> int:
        """Return how many rows there are to purge."""
        if self.sieve is not None:
            pages = self._pages(A_PAGE)
            return sum(len(self.sieve([*map(itemgetter(0), page)])) for page in pages)

        def counted() -> int:
            with connections[self.using].cursor() as cursor:
                cursor.execute(self.counting, {"cutoff": self.cutoff})
                count: int = cursor.fetchone()[0]
                return count

        return insisted(counted, self.using, self.when_busy)

    def batches(self, size: int) -> Iterator[int]:
        """Purge `size` rows at a time, oldest first; yield each batch's number.

        Every batch is committed before it is yielded, so that stopping at any point
        keeps what was done. Two purges at once share the work: each skips the rows that
        the other has locked.
        """
        dialect = dialect_of(connections[self.using])
        rest = dialect.rest_after_batch.total_seconds()
        size = min(size, dialect.largest_batch or size)
        if not self.acting.at_once:
            yield from self._found_batches(size)
            return
        while purged := self._insisted(lambda: self._act(size)):
            yield purged
            time.sleep(rest)

    def _act(self, size: int) -> int:
        with self._transaction() as cursor:
            cursor.execute(self.acting.at_once, self._with(size=size))
            purged: int = cursor.rowcount
        return purged

    def _found_batches(self, size: int) -> Iterator[int]:
        """Find rows first, and then act on them, always going on after those found.

        What somebody has locked is left behind, for the next purge.
        """
        for found in self._pages(size):
            if purged := self._insisted(partial(self._act_on, found)):
                yield purged

    def _pages(self, size: int) -> Iterator[list[tuple[Any, ...]]]:
        last = BEFORE_ALL
        while found := self._insisted(partial(self._found, size, last)):
            last = found[-1]
            yield found

    def _found(self, size: int, after: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        after_id, instant, *_ = after
        where = self._with(size=size, after=instant, after_id=after_id)
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.acting.found, where)
            return list(cursor.fetchall())

    def _act_on(self, found: list[tuple[Any, ...]]) -> int:
        ends = {row_id: end for row_id, _, end in found}
        ids = [*(self.sieve(ends.keys()) if self.sieve else ends)]
        connection = connections[self.using]
        if ids and self.acting.all_found:
            try:
                with (
                    self._transaction() as cursor,
                    dialect_of(connection).locking(connection, A_BATCH),
                ):
                    cursor.execute(self.acting.all_found, self._with(ids=ids))
                    purged: int = cursor.rowcount
                return purged
            except Error as error:
                if trouble_of(connection, error) not in LOCKED:
                    raise
        with self._transaction() as cursor:
            purged = 0
            for row_id in ids:
                one = self._with(id=row_id, end=ends[row_id])
                cursor.execute(self.acting.one_found, one)
                purged += cursor.rowcount
        return purged

    def _with(self, **more: Any) -> dict[str, Any]:
        return {"cutoff": self.cutoff, **more}

    def _insisted(self, act: Callable[[], T]) -> T:
        return insisted(act, self.using, self.when_busy)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        connection = connections[self.using]
        is_ours = not connection.in_atomic_block
        level = dialect_of(connection).read_committed
        with transaction.atomic(using=self.using), connection.cursor() as cursor:
            # Under SERIALIZABLE its reads could make live requests fail.
            if is_ours and level:
                cursor.execute(level)
            yield cursor


def cutoff(using: str, for_at_least: timedelta, when_busy: WhenBusy) -> str:
    """Return the instant so long ago, in the database's own spelling, by its clock."""

    def instant() -> str:
        connection = connections[using]
        with connection.cursor() as cursor:
            seconds = {"seconds": -for_at_least.total_seconds()}
            cursor.execute(dialect_of(connection).instant_as_text(), seconds)
            text: str = cursor.fetchone()[0]
            return text

    return insisted(instant, using, when_busy)


def insisted(act: Callable[[], T], using: str, when_busy: WhenBusy) -> T:
    """Act, and again as long as others are in the way.

    Raises:
        Error: it failed for another reason, or inside a transaction of somebody else's.
        Exception: whatever `when_busy` raised; nothing was done since the last success.
    """
    connection = connections[using]
    while True:
        try:
            with _trying(using):
                return act()
        except Error as error:
            if connection.in_atomic_block:
                raise
            trouble = trouble_of(connection, error)
            if trouble in IN_THE_WAY and when_busy:
                when_busy()
            # Above READ COMMITTED, a row that another purge or a renewal got first.
            elif trouble is not Trouble.CONFLICT:
                raise


def _trying(using: str) -> AbstractContextManager[None]:
    """Bound one try, so that whoever waits can be told, and stopped, in between.

    Elsewhere the purge waits for nobody's row, and a limit would only end its own work.
    """
    connection = connections[using]
    dialect = dialect_of(connection)
    return dialect.opening(connection, A_TRY) if dialect.one_lock else nullcontext()
