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

Note [Why MariaDB never waits in the claim]
An INSERT that waits for another of the same id locks the gap around it when that other
one is rolled back: InnoDB then ends all waiting copies but one with a deadlock, and that
one keeps new keys that belong into the gap out for as long as its view runs. So the
INSERT doesn't wait. Who is refused looks, by a read that waits for the leader in a
transaction of its own and locks nothing when that is over, and tries again.

Note [Reading what is newest]
Under REPEATABLE READ an InnoDB transaction reads what was committed when it first read,
but locks and writes what is newest: a row that looks released could have been kept since.
Inside a transaction the row is therefore read by a locking read.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from django.db import Error, InterfaceError, NotSupportedError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["Dialect", "Trouble", "dialect_of", "trouble_of"]

MARIADB = (10, 11)
"""The oldest version that is tested; SKIP LOCKED came with 10.6."""


class Trouble(Enum):
    """What a database error during a claim means."""

    CONFLICT = auto()
    """Another transaction was first (serialization failure, deadlock)."""
    TAKEN = auto()
    """There is a committed row of that id."""
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
    insert_waits = True
    """Whether the claim waits for an uncommitted row; else it fails as timed out."""
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
    newest = ""
    """Added to a SELECT in an open transaction: see Note [Reading what is newest]."""
    read_committed = ""
    """Said first in a transaction that must not make others fail."""
    json = "%s"
    cutoff = "%(cutoff)s"
    """A parameter that is an instant in the database's own spelling."""
    as_text = "{}"
    """How an instant gets that spelling."""

    def insert_first(self, table: str, values: Mapping[str, str], state: str) -> str:
        """The claim: an INSERT that waits for an uncommitted row and fails on no other.

        `values` are SQL expressions by column.
        """
        claimed = self.claimed_state.replace("STATE", f"'{state}'")
        insert = self._insert(table, {**values, "state": claimed})
        return f"{insert} ON CONFLICT (id) DO NOTHING{self.claim_returns}"

    def _insert(self, table: str, values: Mapping[str, str]) -> str:
        columns = ", ".join(self.quoted(name) for name in values)
        return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(values.values())})"

    def quoted(self, column: str) -> str:
        """Return the column's name as it has to be written."""
        return column

    def equal(self, left: str, right: str) -> str:
        """Compare texts, each character of them."""
        return f"{left} = {right}"

    @abstractmethod
    def seconds_until(self, column: str) -> str:
        """How long it is until an instant; negative if it is over."""

    def instant_as_text(self) -> str:
        """The instant that is so many seconds from now, in the database's spelling."""
        return f"SELECT {self.as_text.format(self.later)}"

    def delete_batch(self, table: str, condition: str) -> str:
        """Delete the oldest rows that nobody has locked, `size` of them."""
        selection = (
            f"FROM {table} WHERE {condition} ORDER BY expires_at"
            f" LIMIT %(size)s{self.skip_locked}"
        )
        return self._delete_selected(table, selection, condition)

    def _delete_selected(self, table: str, selection: str, condition: str) -> str:
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

    def watching(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Tell Django about statements that break the transaction, where it must be told."""
        return nullcontext()

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
    cutoff = "%(cutoff)s::timestamptz"
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

    def _delete_selected(self, table: str, selection: str, condition: str) -> str:
        # Where the table is partitioned, there can be a row at that place in each part.
        return (
            f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid {selection}))"
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


class MariaDB(Dialect):  # pragma: no cover - MariaDB
    # NOW() would be in the session's time zone, and Django stores UTC. It is the time at
    # which the statement began, in an old transaction, too.
    now = "UTC_TIMESTAMP(6)"
    statement_began = now
    later = "UTC_TIMESTAMP(6) + INTERVAL %s SECOND"
    insert_waits = False
    skip_locked = " FOR UPDATE SKIP LOCKED"
    newest = " LOCK IN SHARE MODE"
    read_committed = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
    as_text = "CAST({} AS CHAR)"

    DEADLOCK = 1213
    # The second, with innodb_snapshot_isolation: a row that has changed since.
    CONFLICTS = frozenset({DEADLOCK, 1020})
    # Lock wait, max_statement_time, KILL QUERY.
    TIMEOUTS = frozenset({1205, 1969, 1317})
    DUPLICATE = 1062
    # The server shuts down, or has ended the connection; the driver's own codes are those
    # from 2000 on, and 0 for a connection that it has given up.
    DISCONNECTS = frozenset({0, 1053, 1927, *range(2000, 3000)})
    # --read-only, a read-only transaction, a read-only server.
    READ_ONLY = frozenset({1290, 1792, 1836})
    UNKNOWN_COLUMN = 1054

    def insert_first(self, table: str, values: Mapping[str, str], state: str) -> str:
        # INSERT IGNORE would hide every other error, too.
        insert = self._insert(table, {**values, "state": f"'{state}'"})
        return f"SET STATEMENT innodb_lock_wait_timeout = 0 FOR {insert}"

    def quoted(self, column: str) -> str:
        return f"`{column}`"

    def equal(self, left: str, right: str) -> str:
        # Its collations ignore case and trailing spaces. The first half is for the index.
        return f"{left} = {right} AND BINARY {left} = BINARY {right}"

    def seconds_until(self, column: str) -> str:
        return f"TIMESTAMPDIFF(MICROSECOND, {self.now}, {column}) / 1e6"

    def _delete_selected(self, table: str, selection: str, condition: str) -> str:
        # By a join, in this order: for IN the whole table would be gone through, and
        # whoever has locked a row of it waited for.
        return (
            f"DELETE {table} FROM (SELECT id {selection}) AS batch"
            f" STRAIGHT_JOIN {table} ON {table}.id = batch.id"
        )

    @contextmanager
    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        # As part of each statement, because a setting of the session would outlive a
        # rollback. InnoDB's own limit is in whole seconds, but alone knows "not at all".
        seconds = wait.total_seconds()
        limits = f"innodb_lock_wait_timeout = {math.ceil(seconds)}"
        if seconds:
            limits += f", max_statement_time = {_shorter_than_project(seconds)}"

        def execute_bounded(
            execute: Callable[..., Any], sql: str, *arguments: Any
        ) -> Any:
            if sql.startswith(("DELETE ", "INSERT ", "SELECT ", "UPDATE ")):
                sql = f"SET STATEMENT {limits} FOR {sql}"
            return execute(sql, *arguments)

        with connection.execute_wrapper(execute_bounded):
            yield

    locking = opening

    @contextmanager
    def watching(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        # A deadlock ends the transaction and not only the statement; the next statement
        # begins another one. Who swallows the error would commit the second half.
        def execute_watched(execute: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return execute(*arguments)
            except OperationalError as error:
                if error.args[0] == self.DEADLOCK and connection.in_atomic_block:
                    connection.needs_rollback = True
                raise

        with connection.execute_wrapper(execute_watched):
            yield

    def trouble(self, error: Error) -> Trouble | None:
        code = error.args[0] if error.args else None
        if code in self.CONFLICTS:
            return Trouble.CONFLICT
        if code in self.TIMEOUTS:
            return Trouble.TIMED_OUT
        if code == self.DUPLICATE:
            return Trouble.TAKEN
        if code in self.DISCONNECTS:
            return Trouble.DISCONNECTED
        if code in self.READ_ONLY:
            return Trouble.UNAVAILABLE
        is_fault = (
            not isinstance(error, OperationalError) or code == self.UNKNOWN_COLUMN
        )
        return None if is_fault else Trouble.UNAVAILABLE


DIALECTS: Mapping[str, Dialect] = {
    "postgresql": PostgreSQL(),
    "sqlite": SQLite(),
    "mysql": MariaDB(),
}
"""By Django's name of the vendor, which is the same for MySQL."""


def dialect_of(connection: BaseDatabaseWrapper) -> Dialect:
    """Return the statements for this kind of database.

    A new connection to MySQL or MariaDB asks the server which of the two it is.

    Raises:
        NotSupportedError: where it is unknown how the database waits and conflicts.
    """
    dialect = DIALECTS.get(connection.vendor)
    if dialect is None or not _is_tested(connection):
        raise NotSupportedError(
            f"django_idempotency can't promise anything on {connection.display_name}: "
            "let your database router send IdempotencyRecord and ProcessedEvent to "
            "PostgreSQL, to MariaDB 10.11 or later, or to SQLite."
        )
    return dialect


def _is_tested(connection: Any) -> bool:
    if connection.vendor == "mysql":  # pragma: no cover - MariaDB
        return bool(connection.mysql_is_mariadb and connection.mysql_version >= MARIADB)
    return True


def trouble_of(connection: BaseDatabaseWrapper, error: Error) -> Trouble | None:
    """Say what the error means, without asking a server that may be gone."""
    return DIALECTS[connection.vendor].trouble(error)


SHORTEST_WAIT = timedelta(milliseconds=20)
"""Zero would mean to wait for ever, and less be refused where a table just grows."""


def milliseconds(wait: timedelta) -> str:
    return str(max(wait, SHORTEST_WAIT) // timedelta(milliseconds=1))


def sqlstate(error: BaseException) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def _shorter_than_project(seconds: float) -> str:
    """A `max_statement_time`, unless the project's own is shorter; 0 is none."""
    return (
        f"IF(@@max_statement_time BETWEEN 1e-6 AND {seconds:.6f},"
        f" @@max_statement_time, {seconds:.6f})"
    )
