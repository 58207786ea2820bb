"""Deletes expired rows, in batches so small that nobody has to wait for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from django.db import Error, connections, transaction

from .dialects import dialect_of, trouble_of
from .dialects.base import Trouble
from .intents import intent_statements
from .statements import event_statements, record_statements

T = TypeVar("T")

A_TRY = timedelta(seconds=1)
"""How long one try waits for the lock that covers a whole database (SQLite)."""

WhenBusy = Callable[[], None] | None

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
    acting: str
    """The statements on the table to purge."""
    cutoff: str
    """An instant in the database's own spelling."""
    when_busy: WhenBusy = None

    @classmethod
    def of_records(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """The records, by the database's clock."""
        own = record_statements(dialect_of(connections[using]))
        cutoff = _cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_expired, own.purge, cutoff, when_busy)

    @classmethod
    def of_answers(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """The answers of records of which a tombstone is left, by the same clock."""
        own = record_statements(dialect_of(connections[using]))
        cutoff = _cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_to_shorten, own.shorten, cutoff, when_busy)

    @classmethod
    def of_events(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """The webhook events, by the database's clock."""
        own = event_statements(dialect_of(connections[using]))
        cutoff = _cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_expired, own.purge, cutoff, when_busy)

    @classmethod
    def of_intents(
        cls, *, using: str, for_at_least: timedelta, when_busy: WhenBusy = None
    ) -> Purge:
        """Who was the first to ask for something, by the same clock."""
        own = intent_statements(dialect_of(connections[using]))
        cutoff = _cutoff(using, for_at_least, when_busy)
        return cls(using, own.count_expired, own.purge, cutoff, when_busy)

    def count(self) -> int:
        """Return how many rows there are to purge."""

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
        while purged := insisted(lambda: self._act(size), self.using, self.when_busy):
            yield purged
            time.sleep(rest)

    def _act(self, size: int) -> int:
        connection = connections[self.using]
        dialect = dialect_of(connection)
        is_ours = not connection.in_atomic_block
        batch: dict[str, str | int] = {"cutoff": self.cutoff, "size": size}
        with transaction.atomic(using=self.using), connection.cursor() as cursor:
            # Under SERIALIZABLE its reads could make live requests fail.
            if is_ours and dialect.read_committed:
                cursor.execute(dialect.read_committed)
            cursor.execute(self.acting, batch)
            purged: int = cursor.rowcount
        return purged


def _cutoff(using: str, for_at_least: timedelta, when_busy: WhenBusy) -> str:
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
