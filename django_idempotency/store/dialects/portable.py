"""PostgreSQL's SQL as far as databases that speak it, and spread their rows, take it.

Note [What a distributed table takes]
Its row is on another server, which a statement is sent to by the row's id. So nothing
here finds a row by where it is, returns more than was written, or locks what it searches
for. A clock is one that the statement can carry: it is read before the statement is
sent, so it must not depend on a column, and must not stand in a CASE or COALESCE. And
`set_config` inside a statement would act on the server with the table's name, not on the
one with the row: the wait is bounded by `statement_timeout` around the claim, since only
that ends a statement together with what it waits for elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.history import MOST_NOTES, Happening

from .base import Batch, Dialect, Trouble, milliseconds

SHORTEST_STATEMENT = timedelta(milliseconds=200)
"""A statement may first have to open a connection to the server with the row."""


class PortablePostgreSQL(Dialect):
    now = "statement_timestamp()"
    statement_began = now
    same_transaction = " AND pg_current_xact_id()::text = %(transaction)s"
    numbers_transactions = True
    bounds_claims = True
    locks_what_it_finds = False
    skip_locked = " FOR UPDATE SKIP LOCKED"
    read_committed = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
    cutoff = "%(cutoff)s::timestamptz"
    as_text = "({})::text"

    CONFLICTS = frozenset({"40001", "40P01"})
    # lock_not_available, query_canceled
    TIMEOUTS = frozenset({"55P03", "57014"})
    # admin_shutdown, crash_shutdown, cannot_connect_now, and sessions that the server
    # ended by one of its time-outs; class 08 is "connection exception".
    DISCONNECTS = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
    READ_ONLY = "25006"
    DUPLICATE = "23505"  # unique_violation
    UNDEFINED = frozenset({"42P01", "42703"})  # table, column
    NUMBER = "pg_current_xact_id()::text"
    LIMIT_WAITS = (
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'),"
        " set_config('lock_timeout', %s, true), set_config('statement_timeout',"
        " coalesce(least(%s::float8, nullif(1000 * extract(epoch FROM"
        " current_setting('statement_timeout')::interval), 0)), 0)::bigint::text, true)"
    )
    """Keeps a shorter `statement_timeout` of the project's."""
    RESTORE_LIMITS = (
        "SELECT set_config('lock_timeout', %s, true),"
        " set_config('statement_timeout', %s, true)"
    )
    IN_ERROR = 3
    """libpq's PQTRANS_INERROR."""

    def later(self, parameter: str) -> str:
        return f"{self.now} + %({parameter})s * interval '1 second'"

    # These two take what isn't NULL.
    def since(self, column: str) -> str:
        return f"LEAST({column}, {self.now})"

    def earliest(self, column: str, instant: str) -> str:
        return f"LEAST({column}, {instant})"

    def latest(self, column: str, instant: str) -> str:
        return f"GREATEST({column}, {instant})"

    def json(self, text: str) -> str:
        return f"{text}::jsonb"

    def appended(self, column: str, parameter: str) -> str:
        return (
            f"CASE WHEN jsonb_array_length({column}) < {MOST_NOTES} THEN {column}"
            f" ELSE {column} - 1 END || %({parameter})s::jsonb"
        )

    def noted_end(self, column: str) -> str:
        return (
            f"jsonb_build_array(jsonb_build_object('what', '{Happening.EXPIRED}', 'at',"
            f" {column}))"
        )

    def epoch(self, column: str) -> str:
        return f"floor(extract(epoch FROM {column}))::bigint"

    def seconds_until(self, column: str) -> str:
        return f"extract(epoch FROM {column} - {self.now})::float8"

    def delete_batch(self, table: str, condition: str) -> Batch:
        return self._batch(
            table,
            condition,
            all_found=f"DELETE FROM {table} WHERE id = ANY(%(ids)s) AND {condition}",
            one_found=f"DELETE FROM {table} WHERE",
        )

    def update_batch(self, table: str, columns: str, condition: str) -> Batch:
        # What a row's own time is written as isn't the same on each server: it is told
        # in the search, and written as it was told.
        noted = columns.replace(self.noted_end("expires_at"), self.json("%(end)s"))
        one = f"UPDATE {table} SET {noted} WHERE"
        return self._batch(table, condition, one_found=one)

    def _batch(
        self, table: str, condition: str, *, one_found: str, all_found: str = ""
    ) -> Batch:
        end = self.noted_end("expires_at")
        return Batch(
            found=f"SELECT id, expires_at::text, {end}::text FROM {table}"
            f" WHERE {condition}"
            " AND (expires_at, id) > (%(after)s::timestamptz, %(after_id)s::uuid)"
            " ORDER BY expires_at, id LIMIT %(size)s",
            all_found=all_found,
            one_found=f"{one_found} id = (SELECT id FROM {table} WHERE id = %(id)s"
            f" AND {condition}{self.skip_locked})",
        )

    def claiming(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[str | None]:
        return self._claiming(connection, wait)

    @contextmanager
    def _claiming(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[str | None]:
        with connection.cursor() as cursor:
            *previous, number = self._limited(cursor, wait, f", {self.NUMBER}")
            yield number
            cursor.execute(self.RESTORE_LIMITS, previous)

    @contextmanager
    def locking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        with connection.cursor() as cursor:
            previous = self._limited(cursor, wait)
            # No `finally`: after an error the transaction is rolled back, and the
            # settings with it.
            yield
            cursor.execute(self.RESTORE_LIMITS, previous)

    def _limited(self, cursor: Any, wait: timedelta, more: str = "") -> list[str]:
        """Limit the transaction's waits; return the limits as they were, and more."""
        limits = [milliseconds(wait), self._longest_statement(wait)]
        cursor.execute(self.LIMIT_WAITS + more, limits)
        lock, statement, _, _, *told = cursor.fetchone()
        return [lock, statement, *told]

    def _longest_statement(self, wait: timedelta) -> str | None:
        return milliseconds(max(wait, SHORTEST_STATEMENT))

    def number(self, cursor: Any) -> str | None:
        cursor.execute(f"SELECT {self.NUMBER}")
        number: str = cursor.fetchone()[0]
        return number

    def is_unmarked(self, error: Error) -> bool:
        return False  # pragma: no cover - its transactions have numbers

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        driver: Any = connection.connection
        if driver is None:
            return False
        # Psycopg 3 would make an object and an enum of `info`.
        info = getattr(driver, "pgconn", None) or driver.info
        status: int = info.transaction_status
        return status == self.IN_ERROR

    def trouble(self, error: Error) -> Trouble | None:
        state = sqlstate(error)
        if state in self.CONFLICTS:
            return Trouble.CONFLICT
        if state in self.TIMEOUTS:
            return Trouble.TIMED_OUT
        if state == self.READ_ONLY:
            return Trouble.UNAVAILABLE
        if state == self.DUPLICATE:
            return Trouble.TAKEN
        if state in self.UNDEFINED:
            return Trouble.NOT_MIGRATED
        if state is None:
            is_gone = isinstance(error, InterfaceError | OperationalError)
            return Trouble.DISCONNECTED if is_gone else None
        # By code, not by class: the driver raises 25P03 as an InternalError.
        if state in self.DISCONNECTS or state.startswith("08"):
            return Trouble.DISCONNECTED
        return Trouble.UNAVAILABLE if isinstance(error, OperationalError) else None


def sqlstate(error: BaseException) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
