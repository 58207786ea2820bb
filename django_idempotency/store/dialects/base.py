"""What the statements and the store need to know about a kind of database."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import cache
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import QuerySet

from django_idempotency.exceptions import TransactionLost

SHORTEST_WAIT = timedelta(milliseconds=20)
"""Zero would mean to wait for ever, and less can time out while a table grows."""


MILLISECOND = timedelta(milliseconds=1)


def milliseconds(wait: timedelta) -> str:
    return str(max(wait, SHORTEST_WAIT) // MILLISECOND)


class Trouble(Enum):
    """What a database error during a claim means."""

    CONFLICT = auto()
    """Another transaction was first (serialization failure, deadlock)."""
    TAKEN = auto()
    """There is a committed row of that id, or with another value that must be unique."""
    TIMED_OUT = auto()
    """The wait ran out: ours, or the project's own `statement_timeout`."""
    DISCONNECTED = auto()
    """The connection is gone; a new one may work."""
    UNAVAILABLE = auto()
    """The database can't be written to."""
    BUSY = auto()
    """Somebody writes to the database, which has one lock for all keys."""
    NOT_MIGRATED = auto()
    """A table or a column is missing: `migrate` has not been run."""


ENDS = (
    r"COMMIT|ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b)|ABORT|END|BEGIN(?!\s+NOT\b)"
    r"|START\s+TRANSACTION|PREPARE\s+TRANSACTION"
)
"""What ends a transaction everywhere. A BEGIN commits on some databases."""

REFUSED = (
    "{} would end the transaction in which this operation was claimed: what came before "
    "it would stay, whatever becomes of the rest. It was not sent, and nothing is lost. "
    "Let it run before or after the protected view, task or handler."
)


LOST = (
    "The transaction in which this operation was claimed was ended inside the work: by a "
    "COMMIT or ROLLBACK over the driver's own connection, in a script or a procedure, or "
    "by an error that rolls everything back and was swallowed. Nothing that came after "
    "is kept. If something was committed before, the operation waits for a person, and "
    "isn't run again."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How the oldest rows under a condition are purged, some at a time.

    In one statement; or they are found first, and then written by their ids, all of them
    or, if somebody has locked one, each by itself.
    """

    at_once: str = ""
    found: str = ""
    """Ids, and when they expire, after a row that was found before."""
    all_found: str = ""
    one_found: str = ""


@cache
def statement_of(kinds: str) -> re.Pattern[str]:
    blanks = r"(?:[\s;(]|--[^\n]*\n|\#[^\n]*\n|/\*.*?\*/)*+"
    return re.compile(rf"{blanks}({kinds})\b", re.IGNORECASE | re.DOTALL)


class Dialect(ABC):
    """The parts from which the statements are built."""

    now: str
    """The database's clock, even in an old transaction."""
    statement_began: str
    """The same clock as one constant, so that an index can be searched with it."""
    claimed_state = "STATE"
    """How a claim writes the state; may take `wait` as a parameter, in milliseconds."""
    claim_returns = ""
    renew_returns = ""
    insert_waits = True
    """Whether the claim waits for an uncommitted row; else it fails as timed out."""
    same_transaction = ""
    """Condition that the claim's transaction is still open; else it is marked."""
    at_row = "id = %(id)s"
    """Condition that finds a row again that this transaction has written."""
    numbers_transactions = False
    """Whether `number` tells one from another, and `same_transaction` takes it."""
    bounds_claims = False
    """Whether `claiming` bounds the wait, exactly, which takes a transaction."""
    locks_what_it_finds = True
    """Whether one statement can search for rows and lock them; else each is locked."""
    location = "NULL"
    """The column that says where a row is."""
    rows_are_located = False
    """Whether a claim returns where its row is, and `at_row` takes it as `location`."""
    skip_locked = ""
    and_unflushed = ""
    """A true condition with which the statement's commit doesn't wait for the disk."""
    newest = ""
    """Added to a SELECT in an open transaction: see Note [Reading what is newest]."""
    read_committed = ""
    """The first statement of a transaction that must not make others fail."""
    within_lease = ""
    """What bounds the wait of a write in a lease; may take `lease`, in seconds."""
    one_lock = False
    """Whether one lock covers the whole database, so that a wait says nothing of a key."""
    brief_wait = timedelta(0)
    """How long a note waits: not for a row, but for a lock that others hold shortly."""
    largest_batch: int | None = None
    """How many rows a purge may delete at a time, if all others have to wait for it."""
    rest_after_batch = timedelta(0)
    """How long a purge at least lets others write between two batches."""
    notes_failures = True
    """Whether an attempt that has failed leaves a note of it: see Note [What another node
    can't see]. It could be certified before a claim of another node."""
    notes_in_flight = True
    """Whether who is sent away leaves a note on the row of a lease. Elsewhere the row's
    lock tells that its owner is about to write to it, who would be refused then."""
    true = "TRUE"
    cutoff = "%(cutoff)s"
    """A parameter that is an instant in the database's own spelling."""
    as_text = "{}"
    """Expression that turns an instant into that spelling."""

    def insert_first(self, table: str, values: Mapping[str, str], state: str) -> str:
        """The claim: an INSERT that waits for an uncommitted row and fails on no other.

        `values` are SQL expressions by column.
        """
        return self.insert_bounded(table, {**values, "state": f"'{state}'"}, "state")

    def insert_bounded(self, table: str, values: Mapping[str, str], column: str) -> str:
        """The same for any row; the wait is bounded while this column is evaluated."""
        claimed = self.claimed_state.replace("STATE", values[column])
        insert = self._insert(table, {**values, column: claimed})
        return f"{insert} ON CONFLICT (id) DO NOTHING{self.claim_returns}"

    def streamed(self, statement: str) -> str:
        """Let a claim be known to each node of a cluster at once, and not at the COMMIT."""
        return statement

    def adding_up(self, table: str, columns: Collection[str]) -> str:
        """The end of an INSERT that adds to the columns of the rows that are there."""
        added = ", ".join(
            f"{each} = {table}.{each} + excluded.{each}"
            for each in map(self.quoted, columns)
        )
        return f"ON CONFLICT (id) DO UPDATE SET {added}"

    def replacing(self, columns: Collection[str]) -> str:
        """The end of an INSERT that replaces these columns of the rows that are there."""
        replaced = ", ".join(
            f"{each} = excluded.{each}" for each in map(self.quoted, columns)
        )
        return f"ON CONFLICT (id) DO UPDATE SET {replaced}"

    def _insert(self, table: str, values: Mapping[str, str]) -> str:
        columns = ", ".join(self.quoted(name) for name in values)
        return f"INSERT INTO {table} ({columns}) VALUES ({', '.join(values.values())})"

    def quoted(self, column: str) -> str:
        """Return the column's name, quoted if need be."""
        return column

    @abstractmethod
    def later(self, parameter: str) -> str:
        """`now` plus the parameter of that name, in seconds."""

    def json(self, text: str) -> str:
        """Write a text into a JSON column, with a cast if an expression needs one."""
        return text

    @abstractmethod
    def appended(self, column: str, parameter: str) -> str:
        """A JSON list with one more object: the first one stays, and the last ones."""

    def since(self, column: str) -> str:
        """The instant in the column, or now if there is none."""
        return f"COALESCE({column}, {self.now})"

    def earliest(self, column: str, instant: str) -> str:
        """The earlier one of two."""
        return f"CASE WHEN {column} < {instant} THEN {column} ELSE {instant} END"

    def latest(self, column: str, instant: str) -> str:
        """The later one of two."""
        return f"CASE WHEN {column} > {instant} THEN {column} ELSE {instant} END"

    @abstractmethod
    def noted_end(self, column: str) -> str:
        """A JSON list with one note: the retention was over at this instant."""

    @abstractmethod
    def seconds_until(self, column: str) -> str:
        """How long it is until an instant; negative if it is over."""

    @abstractmethod
    def epoch(self, column: str) -> str:
        """An instant as whole seconds since 1970, none of which is after it."""

    def instant_as_text(self) -> str:
        """The instant `seconds` from now, in the database's spelling."""
        return f"SELECT {self.as_text.format(self.later('seconds'))}"

    def found_at(self, rows: QuerySet[Any], location: str | None) -> QuerySet[Any]:
        """Narrow a query to the row at a location, if this database has locations."""
        return rows

    def delete_batch(self, table: str, condition: str) -> Batch:
        """Delete the oldest rows that nobody has locked, `size` of them."""
        oldest = self._oldest(table, condition)
        return Batch(at_once=f"DELETE FROM {table} WHERE id IN (SELECT id {oldest})")

    def update_batch(self, table: str, columns: str, condition: str) -> Batch:
        """Write to the oldest rows that nobody has locked, `size` of them."""
        oldest = self._oldest(table, condition)
        update = f"UPDATE {table} SET {columns}"
        return Batch(at_once=f"{update} WHERE id IN (SELECT id {oldest})")

    def _oldest(self, table: str, condition: str) -> str:
        return (
            f"FROM {table} WHERE {condition} ORDER BY expires_at"
            f" LIMIT %(size)s{self.skip_locked}"
        )

    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound the waits of a transaction's first statements, BEGIN included."""
        return nullcontext()

    def looking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound a read outside of a transaction, where writers can keep it waiting."""
        return nullcontext()

    def looking_anywhere(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """The same, and the read finds what is committed on any node by now."""
        return self.looking(connection, wait)

    def claiming(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[str | None]:
        """Bound the wait of a claim, if the claim doesn't do that by itself.

        Where that asks the database anything, it gives the transaction's number as well.
        """
        return nullcontext()

    def locking(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> AbstractContextManager[None]:
        """Bound the wait for others, inside a transaction; if it is zero, for each one."""
        return nullcontext()

    @property
    def ends_transaction(self) -> re.Pattern[str]:
        """Match a statement that would end the open transaction, at its start."""
        return statement_of(ENDS)

    def is_open(self, connection: Any) -> bool:
        """Whether a transaction is open, or what is sent next would commit itself.

        To be overridden where the driver knows it, and does not begin one by itself.
        """
        return True

    def mark(self, connection: Any, name: str) -> None:
        """Mark the open transaction, so that it is known again."""
        with connection.cursor() as cursor:
            cursor.execute(f"SAVEPOINT {name}")

    def is_marked(self, connection: Any, name: str) -> bool:
        """Whether this transaction is still the one that was marked; ends the mark.

        To be asked before anything is written: where none is open any more, a statement
        commits itself.

        Raises:
            Error: the database can't be asked.
        """
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"RELEASE SAVEPOINT {name}")
        except Error as error:  # pragma: no cover - MariaDB and SQLite
            if not self.is_unmarked(error):
                raise
            return False
        return True

    def number(self, cursor: Any) -> str | None:
        """Return the number of the open transaction, if this database has such."""
        return None  # pragma: no cover - MariaDB and SQLite

    @abstractmethod
    def is_unmarked(self, error: Error) -> bool:
        """Whether the error says that there is no such savepoint."""

    def fits(self, connection: BaseDatabaseWrapper, body: bytes) -> bool:
        """Whether a statement can carry so long a body."""
        return True

    def is_aborted(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the open transaction can only be rolled back; makes no query."""
        return False

    def watching(self, connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
        """Refuse statements that end the transaction, before they are sent.

        Raises:
            TransactionLost
        """
        return _Watch(self, connection)

    @abstractmethod
    def trouble(self, error: Error) -> Trouble | None:
        """Return what the error means; ``None``: an error that must not be hidden."""


class _Watch(AbstractContextManager[None]):
    # A class: Django's execute_wrapper() would cost each operation several times as much.
    def __init__(self, dialect: Dialect, connection: BaseDatabaseWrapper) -> None:
        self._ends = dialect.ends_transaction.match
        self._is_open = dialect.is_open
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute_wrappers.append(self._execute)

    def __exit__(self, *raised: object) -> None:
        self._connection.execute_wrappers.pop()

    def _execute(self, execute: Callable[..., Any], sql: Any, *arguments: Any) -> Any:
        if isinstance(sql, str) and (found := self._ends(sql)):
            raise TransactionLost(REFUSED.format(" ".join(found[1].split()).upper()))
        if not self._is_open(self._connection):  # pragma: no cover - SQLite
            raise TransactionLost(LOST)
        return execute(sql, *arguments)
