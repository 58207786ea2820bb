"""Deletes expired rows, in batches so small that nobody has to wait for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db import Error, connections, transaction

from .dialects import dialect_of
from .dialects.base import Trouble
from .statements import (
    EventStatements,
    RecordStatements,
    event_statements,
    record_statements,
)


@dataclass(frozen=True, slots=True)
class Purge:
    """The rows that had expired for `cutoff` or longer when the purge began.

    Rows that are claimed or renewed meanwhile expire later and are left alone, as are
    held records, live leases, events that wait in the inbox or were given up, and
    locked rows.
    """

    using: str
    statements: RecordStatements | EventStatements
    """The statements of the table to purge."""
    cutoff: str
    """An instant in the database's own spelling."""

    @classmethod
    def of_records(cls, *, using: str, for_at_least: timedelta) -> Purge:
        """The records, by the database's clock."""
        dialect = dialect_of(connections[using])
        return cls(using, record_statements(dialect), _cutoff(using, for_at_least))

    @classmethod
    def of_events(cls, *, using: str, for_at_least: timedelta) -> Purge:
        """The webhook events, by the database's clock."""
        dialect = dialect_of(connections[using])
        return cls(using, event_statements(dialect), _cutoff(using, for_at_least))

    def count(self) -> int:
        """Return how many rows there are to delete."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.statements.count_expired, {"cutoff": self.cutoff})
            count: int = cursor.fetchone()[0]
            return count

    def batches(self, size: int) -> Iterator[int]:
        """Delete `size` rows at a time, oldest first; yield each batch's number.

        Every batch is committed before it is yielded, so that stopping at any point
        keeps what was done. Two purges at once share the work: each skips the rows that
        the other has locked.
        """
        dialect = dialect_of(connections[self.using])
        rest = dialect.rest_after_batch.total_seconds()
        size = min(size, dialect.largest_batch or size)
        while deleted := self._delete(size):
            yield deleted
            time.sleep(rest)

    def _delete(self, size: int) -> int:
        connection = connections[self.using]
        dialect = dialect_of(connection)
        is_ours = not connection.in_atomic_block
        batch: dict[str, str | int] = {"cutoff": self.cutoff, "size": size}
        while True:
            try:
                with (
                    transaction.atomic(using=self.using),
                    connection.cursor() as cursor,
                ):
                    # Under SERIALIZABLE its reads could make live requests fail.
                    if is_ours and dialect.read_committed:
                        cursor.execute(dialect.read_committed)
                    cursor.execute(self.statements.purge, batch)
                    deleted: int = cursor.rowcount
                return deleted
            except Error as error:
                # Above READ COMMITTED, a row that another purge or a renewal got first.
                if connection.in_atomic_block:
                    raise
                if dialect.trouble(error) is not Trouble.CONFLICT:
                    raise


def _cutoff(using: str, for_at_least: timedelta) -> str:
    connection = connections[using]
    with connection.cursor() as cursor:
        seconds = -for_at_least.total_seconds()
        cursor.execute(dialect_of(connection).instant_as_text(), {"seconds": seconds})
        instant: str = cursor.fetchone()[0]
        return instant
