"""What each kind of database calls things, and how it waits and fails.

Note [The wait inside the claim]
On PostgreSQL a copy waits for an uncommitted leader at the unique index, and
`lock_timeout` bounds that. It is set and put back inside the INSERT itself, since a
statement of its own would cost every first call a round trip. RETURNING is evaluated
only for an inserted row: after a conflict the setting is put back by rolling back to the
savepoint or transaction that the claim stands in, which the engine always does.

It bounds the wait for each leader, not for several that fail one after the other. So the
first INSERT waits for a moment only; who then knows that there is a leader can afford
the statements that bound the rest exactly (`locking`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from enum import Enum, auto
from functools import cache
from typing import Any

from django.db import Error, InterfaceError, NotSupportedError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Dialect", "Trouble", "dialect_of"]


class Trouble(Enum):
    """What a database error during a claim means."""

    CONFLICT = auto()
    """Another transaction was first (serialization failure, deadlock)."""
    TIMED_OUT = auto()
    """The wait is over: ours, or the project's own `statement_timeout`."""
    DISCONNECTED = auto()
    """The connection is gone; a new one may work."""
    UNAVAILABLE = auto()
    """The database can't be written to."""


class Dialect(ABC):
    """The words that the statements are put together from."""

    now: str
    """The database's clock, even in an old transaction."""
    statement_began: str
    """The same clock as one constant, so that an index can be searched with it."""
    later: str
    """`now` plus a parameter, in seconds."""
    claimed_state = "STATE"
    """How a claim writes the state; may take the wait as a parameter."""
    claim_returns = ""
    renew_returns = ""
    claim_waits = False
    """Whether the claim takes the wait, in milliseconds, as its last parameter."""
    at_row = "id = %s"
    """Where a row that this transaction has written is found again."""
    location = "NULL"
    """Where a row is, as a column."""
    rows_are_located = False
    """Whether `at_row` takes the location that the claim returned, before the id."""
    skip_locked = ""
    and_unflushed = ""
    """Condition that is true; a commit of this statement alone waits for no disk."""
    read_committed = ""
    """Said first in a transaction that must not make others fail."""
    json = "%s"
    instant = "%s"
    """A parameter that is an instant in the database's own spelling."""
    as_text = "{}"
    """How an instant gets that spelling."""

    def insert_first(self, table: str, values: Mapping[str, str], state: str) -> str:
        """The claim: an INSERT that waits for an uncommitted row and fails on no other.

        `values` are SQL expressions by column.
        """
        columns, expressions = ", ".join(values), ", ".join(values.values())
        claimed = self.claimed_state.replace("STATE", f"'{state}'")
        return (
            f"INSERT INTO {table} ({columns}, state) VALUES ({expressions}, {claimed})"
            f" ON CONFLICT (id) DO NOTHING{self.claim_returns}"
        )

    @abstractmethod
    def seconds_until(self, column: str) -> str:
        """How long it is until an instant; negative if it is over."""

    def instant_as_text(self) -> str:
        """The instant that is so many seconds from now, in the database's spelling."""
        return f"SELECT {self.as_text.format(self.later)}"

    def delete_batch(self, table: str, condition: str) -> str:
        """Delete the oldest rows, as many as a parameter says, that nobody has locked."""
        selection = (
            f"FROM {table} WHERE {condition} ORDER BY expires_at"
            f" LIMIT %s{self.skip_locked}"
        )
        return self._delete_selected(table, selection)

    def _delete_selected(self, table: str, selection: str) -> str:
        return f"DELETE FROM {table} WHERE id IN (SELECT id {selection})"

    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound the waits of a transaction's first statements, BEGIN included."""
        return nullcontext()

    def locking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound the wait for others, inside a transaction; if it is zero, for each one."""
        return nullcontext()

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the open transaction can only be rolled back; asks nobody."""
        return False

    @abstractmethod
    def trouble(self, error: Error) -> Trouble | None:
        """Say what the error means; ``None``: a fault that must not be hidden."""


class PostgreSQL(Dialect):
    now = "clock_timestamp()"
    statement_began = "statement_timestamp()"
    later = "clock_timestamp() + %s * interval '1 second'"
    # See Note [The wait inside the claim]. Nested, because CASE promises the order of
    # evaluation and AND does not.
    claimed_state = (
        "CASE WHEN set_config('idempotency.lock_timeout',"
        " current_setting('lock_timeout'), true) IS NOT NULL THEN"
        " CASE WHEN set_config('lock_timeout', %s, true) IS NOT NULL"
        " THEN STATE END END"
    )
    claim_returns = (
        " RETURNING ctid, set_config('lock_timeout',"
        " current_setting('idempotency.lock_timeout'), true)"
    )
    renew_returns = " RETURNING ctid"
    claim_waits = True
    # By location, because a look-up by id under SERIALIZABLE takes a predicate lock on
    # the whole index page, and claims of other keys then fail for nothing.
    at_row = "ctid = %s::tid AND id = %s"
    location = "ctid::text"
    rows_are_located = True
    skip_locked = " FOR UPDATE SKIP LOCKED"
    and_unflushed = " AND set_config('synchronous_commit', 'off', true) IS NOT NULL"
    read_committed = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
    json = "%s::jsonb"
    instant = "%s::timestamptz"
    as_text = "({})::text"

    CONFLICTS = frozenset({"40001", "40P01"})
    # lock_not_available, query_canceled
    TIMEOUTS = frozenset({"55P03", "57014"})
    # admin_shutdown, crash_shutdown, cannot_connect_now, and sessions that the server
    # ended by one of its time-outs; class 08 is "connection exception".
    DISCONNECTS = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25P04"})
    READ_ONLY = "25006"
    LIMIT_WAITS = (
        "SELECT current_setting('lock_timeout'), current_setting('statement_timeout'),"
        " set_config('lock_timeout', %s, true), set_config('statement_timeout',"
        " coalesce(least(%s::float8, nullif(1000 * extract(epoch FROM"
        " current_setting('statement_timeout')::interval), 0)), 0)::bigint::text, true)"
    )
    """A shorter `statement_timeout` of the project's stays."""
    RESTORE_LIMITS = (
        "SELECT set_config('lock_timeout', %s, true),"
        " set_config('statement_timeout', %s, true)"
    )
    IN_ERROR = 3
    """libpq's PQTRANS_INERROR."""

    def seconds_until(self, column: str) -> str:
        return f"extract(epoch FROM {column} - {self.now})::float8"

    def _delete_selected(self, table: str, selection: str) -> str:
        return f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid {selection}))"

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

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        driver: Any = connection.connection
        return driver is not None and driver.info.transaction_status == self.IN_ERROR

    def trouble(self, error: Error) -> Trouble | None:
        state = sqlstate(error)
        if state in self.CONFLICTS:
            return Trouble.CONFLICT
        if state in self.TIMEOUTS:
            return Trouble.TIMED_OUT
        if state == self.READ_ONLY:
            return Trouble.UNAVAILABLE
        if state is None:
            is_gone = isinstance(error, InterfaceError | OperationalError)
            return Trouble.DISCONNECTED if is_gone else None
        # By the code and not by the class: the driver files 25P03 under InternalError.
        if state in self.DISCONNECTS or state.startswith("08"):
            return Trouble.DISCONNECTED
        return Trouble.UNAVAILABLE if isinstance(error, OperationalError) else None


class SQLite(Dialect):
    # As Django writes its timestamps, so that they sort as text.
    now = "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now')"
    statement_began = now
    later = "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', %s || ' seconds')"
    claimed_state = "STATE"

    def seconds_until(self, column: str) -> str:
        return f"(julianday({column}) - julianday('now')) * 86400.0"

    # A write lock is the whole database's, and BEGIN IMMEDIATE takes it.
    @contextmanager
    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        connection.ensure_connection()
        execute = connection.connection.execute
        previous = execute("PRAGMA busy_timeout").fetchone()[0]
        execute(f"PRAGMA busy_timeout = {milliseconds(wait)}")
        try:
            yield
        finally:
            execute(f"PRAGMA busy_timeout = {previous}")

    def trouble(self, error: Error) -> Trouble | None:
        text = str(error)
        if "is locked" in text:
            return Trouble.TIMED_OUT
        if isinstance(error, OperationalError) and "no such table" not in text:
            return Trouble.UNAVAILABLE
        return None


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the statements for this kind of database.

    Raises:
        NotSupportedError: where it is unknown how the database waits and conflicts.
    """
    return _compiled(connection.vendor)


@cache
def _compiled(vendor: str) -> Dialect:
    match vendor:
        case "postgresql":
            return PostgreSQL()
        case "sqlite":
            return SQLite()
        case _:
            raise NotSupportedError(
                f"django_idempotency can't promise anything on {vendor}: let your "
                "database router send IdempotencyRecord to PostgreSQL or SQLite."
            )


SHORTEST_WAIT = timedelta(milliseconds=20)
"""Zero would mean to wait for ever, and less be refused where a table just grows."""


def milliseconds(wait: timedelta) -> str:
    return str(max(wait, SHORTEST_WAIT) // timedelta(milliseconds=1))


def sqlstate(error: BaseException) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
