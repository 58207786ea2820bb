"""PostgreSQL.

Note [The wait inside the claim]
On PostgreSQL a copy waits for an uncommitted leader at the unique index, and
`lock_timeout` bounds that. It is set and restored inside the INSERT itself, since a
separate statement would cost every first call a round trip. RETURNING is evaluated only
for an inserted row; after a conflict the setting is restored by rolling back the
savepoint or transaction around the claim, which the engine always does.

It bounds the wait for each leader, not for several that fail one after the other. So the
first INSERT waits only for a moment; a copy that then knows of a leader can afford the
extra statements that bound the rest exactly (`locking`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, InterfaceError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, QuerySet
from django.db.models.expressions import RawSQL

from django_idempotency.core.history import MOST_NOTES, Happening

from .base import Dialect, Trouble, milliseconds

WHERE_AND_UNTIL = (
    "ctid, pg_current_xact_id()::text, floor(extract(epoch FROM expires_at))::bigint"
)
"""What a claim has to know of its row."""


class PostgreSQL(Dialect):
    now = "clock_timestamp()"
    statement_began = "statement_timestamp()"
    # See Note [The wait inside the claim]. Nested, because CASE guarantees the order of
    # evaluation and AND does not.
    claimed_state = (
        "CASE WHEN set_config('idempotency.lock_timeout',"
        " current_setting('lock_timeout'), true) IS NOT NULL THEN"
        " CASE WHEN set_config('lock_timeout', %(wait)s, true) IS NOT NULL"
        " THEN STATE END END"
    )
    claim_returns = (
        f" RETURNING {WHERE_AND_UNTIL}, set_config('lock_timeout',"
        " current_setting('idempotency.lock_timeout'), true)"
    )
    renew_returns = f" RETURNING {WHERE_AND_UNTIL}"
    same_transaction = " AND pg_current_xact_id()::text = %(transaction)s"
    # By location, because under SERIALIZABLE a look-up by id takes a predicate lock on
    # the whole index page, and claims of other keys would fail without a real conflict.
    at_row = "ctid = %(location)s::tid AND id = %(id)s"
    location = "ctid::text"
    rows_are_located = True
    skip_locked = " FOR UPDATE SKIP LOCKED"
    and_unflushed = " AND set_config('synchronous_commit', 'off', true) IS NOT NULL"
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

    def found_at(self, rows: QuerySet[Any], location: str | None) -> QuerySet[Any]:
        if location is None:
            return rows
        return rows.filter(RawSQL("ctid = %s::tid", [location], BooleanField()))

    def _delete_selected(self, table: str, selection: str, condition: str) -> str:
        return self._selected(f"DELETE FROM {table}", selection, condition)

    def _update_selected(
        self, table: str, columns: str, selection: str, condition: str
    ) -> str:
        return self._selected(f"UPDATE {table} SET {columns}", selection, condition)

    def _selected(self, act: str, selection: str, condition: str) -> str:
        # A partitioned table can have a row at that location in each partition, and one
        # that isn't selected may be locked.
        return (
            "WITH selected AS MATERIALIZED"
            f" (SELECT tableoid AS part, ctid AS place {selection})"
            f" {act} WHERE ctid = ANY(ARRAY(SELECT place FROM selected))"
            " AND (tableoid, ctid) IN (SELECT part, place FROM selected)"
            f" AND {condition}"
        )

    @contextmanager
    def locking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        with connection.cursor() as cursor:
            # A lock's limit starts anew with each one that is waited for; that of the
            # statement doesn't, but would also bound a statement that waits for nobody.
            limit = milliseconds(wait) if wait else None
            cursor.execute(self.LIMIT_WAITS, [milliseconds(wait), limit])
            *previous, _, _ = cursor.fetchone()
            # No `finally`: after an error the transaction is rolled back, and the
            # settings with it.
            yield
            cursor.execute(self.RESTORE_LIMITS, previous)

    def number(self, cursor: Any) -> str | None:
        cursor.execute("SELECT pg_current_xact_id()::text")
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
