"""What each kind of database calls things: the store's SQL, compiled once.

Note [The wait inside the claim]
On PostgreSQL a copy waits for an uncommitted leader at the unique index, and
`lock_timeout` bounds that. It is set and put back inside the INSERT itself, since a
statement of its own would cost every first call a round trip. RETURNING is evaluated
only for an inserted row: after a conflict the setting is put back by rolling back to the
savepoint or transaction that the claim stands in, which the engine always does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from enum import Enum, auto
from functools import cache
from typing import Any

from django.db import Error, InterfaceError, NotSupportedError, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from .decisions import State
from .models import IdempotencyRecord

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
    """The statements. Parameters are given by the verbs of the store, in that order."""

    now: str
    """The database's clock, even in an old transaction."""
    later: str
    """`now` plus a parameter, in seconds."""
    claimed_state = "%s"
    """How the state is written by a claim; may take the wait as a parameter."""
    claim_returns = ""
    renew_returns = ""
    claim_waits = False
    """Whether the claim takes the wait, in milliseconds, as its last parameter."""
    at_row = "id = %s"
    """Where a row that this transaction has written is found again."""
    rows_are_located = False
    """Whether `at_row` takes the location that the claim returned, before the id."""
    skip_locked = ""
    read_committed = ""
    """Said first in a transaction that must not make others fail."""
    json = "%s"
    instant = "%s"
    """A parameter that is an instant in the database's own spelling."""
    as_text = "{}"
    """How an instant gets that spelling."""

    def __init__(self) -> None:
        table = IdempotencyRecord._meta.db_table
        now, later, json = self.now, self.later, self.json
        in_flight, kept, released, held = (
            f"'{state.value}'"
            for state in (State.IN_FLIGHT, State.KEPT, State.RELEASED, State.HELD)
        )
        claimed = self.claimed_state.replace("IN_FLIGHT", in_flight)
        fresh = (
            f"INSERT INTO {table} (id, scope, key, method, path, fingerprint, effects,"
            " attempts, last_error, replays, created_at, expires_at, state) VALUES"
            f" (%s, %s, %s, %s, %s, %s, '{{}}', 1, %s, 0, {now}, {later}, "
        )
        self.claim = (
            f"{fresh}{claimed}) ON CONFLICT (id) DO NOTHING{self.claim_returns}"
        )
        self.read = (
            "SELECT scope, key, fingerprint, state, response_status, response_headers,"
            f" response_body, expires_at <= {now} FROM {table} WHERE id = %s"
        )

        def unless_expired(value: str, otherwise: str) -> str:
            row = f"{table}."
            return (
                f"CASE WHEN {row}expires_at <= {now} THEN {otherwise}"
                f" ELSE {row}{value} END"
            )

        nothing, no_steps = "''", json.replace("%s", "'{}'")
        self.renew = (
            f"UPDATE {table} SET state = {in_flight}, fingerprint = %s,"
            f" attempts = {unless_expired('attempts + 1', '1')},"
            f" effects = {unless_expired('effects', no_steps)},"
            f" last_error = {unless_expired('last_error', nothing)},"
            f" replays = {unless_expired('replays', '0')},"
            f" created_at = {unless_expired('created_at', now)},"
            " last_replayed_at = NULL, completed_at = NULL, response_status = NULL,"
            " response_headers = NULL, response_body = NULL, lease_token = NULL,"
            f" lease_expires_at = NULL, expires_at = {later} WHERE id = %s"
            f"{self.renew_returns}"
        )
        self.keep = (
            f"UPDATE {table} SET state = {kept}, response_status = %s,"
            f" response_headers = {json}, response_body = %s, completed_at = {now}"
            f" WHERE {self.at_row} AND state = {in_flight}"
        )
        self.note_failure = (
            f"{fresh}{released}) ON CONFLICT (id) DO UPDATE SET"
            f" attempts = {unless_expired('attempts + 1', '1')},"
            f" effects = {unless_expired('effects', no_steps)},"
            f" created_at = {unless_expired('created_at', now)},"
            " last_error = excluded.last_error, fingerprint = excluded.fingerprint,"
            f" expires_at = excluded.expires_at WHERE {table}.state = {released}"
        )
        self.count_replay = (
            f"UPDATE {table} SET replays = replays + 1, last_replayed_at = {now}"
            f" WHERE id = (SELECT id FROM {table} WHERE id = %s{self.skip_locked})"
        )
        purgeable = (
            f"FROM {table} WHERE expires_at <= {self.instant} AND state <> {held}"
            f" AND (lease_expires_at IS NULL OR lease_expires_at <= {now})"
        )
        self.cutoff = f"SELECT {self.as_text.format(later)}"
        self.count_expired = f"SELECT count(*) {purgeable}"
        self.purge = self._purge(
            table, f"{purgeable} ORDER BY expires_at LIMIT %s{self.skip_locked}"
        )

    def _purge(self, table: str, selection: str) -> str:
        return f"DELETE FROM {table} WHERE id IN (SELECT id {selection})"

    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound the waits of a transaction's first statements, BEGIN included."""
        return nullcontext()

    def locking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound the wait for row locks, inside a transaction."""
        return nullcontext()

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the open transaction can only be rolled back; asks nobody."""
        return False

    @abstractmethod
    def trouble(self, error: Error) -> Trouble | None:
        """Say what the error means; ``None``: a fault that must not be hidden."""


class PostgreSQL(Dialect):
    now = "clock_timestamp()"
    later = "clock_timestamp() + %s * interval '1 second'"
    # See Note [The wait inside the claim]. Nested, because CASE promises the order of
    # evaluation and AND does not.
    claimed_state = (
        "CASE WHEN set_config('idempotency.lock_timeout',"
        " current_setting('lock_timeout'), true) IS NOT NULL THEN"
        " CASE WHEN set_config('lock_timeout', %s, true) IS NOT NULL"
        " THEN IN_FLIGHT END END"
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
    rows_are_located = True
    skip_locked = " FOR UPDATE SKIP LOCKED"
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
    IN_ERROR = 3
    """libpq's PQTRANS_INERROR."""

    def _purge(self, table: str, selection: str) -> str:
        return f"DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid {selection}))"

    @contextmanager
    def locking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('lock_timeout'),"
                " set_config('lock_timeout', %s, true)",
                [milliseconds(wait)],
            )
            previous = cursor.fetchone()[0]
            # No `finally`: after an error the transaction is rolled back, and the
            # setting with it.
            yield
            cursor.execute("SELECT set_config('lock_timeout', %s, true)", [previous])

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
    later = "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', %s || ' seconds')"
    claimed_state = "IN_FLIGHT"

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


def milliseconds(wait: timedelta) -> str:
    """At least 1, since a `lock_timeout` of zero would mean to wait for ever."""
    return str(max(1, int(wait / timedelta(milliseconds=1))))


def sqlstate(error: BaseException) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
