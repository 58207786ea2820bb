"""A row of either table: inserting, locking and reading it, and the errors of that.

The verbs run in whatever transaction is open on the alias.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DataError,
    Error,
    IntegrityError,
    OperationalError,
    connections,
    transaction,
)
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from django_idempotency.core import at_rest
from django_idempotency.exceptions import (
    ClaimBusy,
    ClaimConflict,
    ClaimFailed,
    ClaimOutrun,
    ClaimTimedOut,
    StoreBusy,
    StoreUnavailable,
    TransactionLost,
)
from django_idempotency.models import IdempotencyRecord

from .dialects import dialect_of, trouble_of
from .dialects.base import LOST, Trouble, milliseconds
from .statements import EventStatements, RecordStatements

NO_WAIT = timedelta(0)

Parameters = dict[str, Any]
"""Parameters by name. A statement may name only some of them."""


ID = IdempotencyRecord._meta.pk


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run, held by the open transaction."""

    row_id: uuid.UUID
    connection: BaseDatabaseWrapper
    """The connection with that transaction."""
    location: str | None
    """Where the row is (PostgreSQL's ctid), good only inside this transaction."""
    transaction: str | None = None
    """The number of the transaction (PostgreSQL's); others are marked instead."""
    kept_until: int | None = None
    """The end of its retention in seconds since 1970, where the claim returns it."""
    cursor: Any = field(default=None, repr=False, compare=False)
    """What the row was claimed with, if a second cursor would be no other."""

    @property
    def using(self) -> str:
        """The database that the row is in."""
        return self.connection.alias

    @property
    def mark(self) -> str:
        """The name of the savepoint that marks the transaction."""
        return f"idempotency_{self.row_id.hex}"


def claim_errors(using: str) -> AbstractContextManager[None]:
    """Translate database errors during a claim.

    Raises:
        ClaimOutrun, ClaimTimedOut, StoreUnavailable
        ImproperlyConfigured: a table or a column is missing.
    """
    return _Translation(using)


class _Translation(AbstractContextManager[None]):
    # A class: a generator would cost each claim several times as much.
    def __init__(self, using: str) -> None:
        self._using = using

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, Error) and (failure := _failure_of(error, self._using)):
            raise failure from error


def _failure_of(error: Error, using: str) -> Exception | None:
    """Return what the error means for a claim; ``None``: one that must not be hidden."""
    match trouble_of(connections[using], error):
        case Trouble.CONFLICT:
            return ClaimOutrun()
        case Trouble.TIMED_OUT:
            return ClaimTimedOut()
        case Trouble.DISCONNECTED:
            return StoreUnavailable(is_disconnect=True)
        case Trouble.UNAVAILABLE:
            return StoreUnavailable(is_disconnect=False)
        case Trouble.BUSY:
            return StoreBusy()
        case Trouble.NOT_MIGRATED:
            return ImproperlyConfigured(
                f"Database {using!r} lacks a table or a column of django_idempotency, "
                "so nothing can be claimed there. Run\n\n"
                f"    python manage.py migrate django_idempotency --database {using}"
            )
        case Trouble.TAKEN | None:  # pragma: no branch - mypy proves it
            return None


def insert_first(
    statement: str,
    parameters: Parameters,
    row_id: uuid.UUID,
    using: str,
    wait: timedelta,
) -> Claim:
    """Claim a row of either table by inserting it, waiting for an uncommitted one.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
        ClaimBusy: there may be one, and this kind of database doesn't wait here.
    """
    bounded = {**parameters, "wait": milliseconds(wait)}
    connection = connections[using]
    dialect = dialect_of(connection)
    try:
        with dialect.claiming(connection, wait) as number:
            return claimed_by(statement, bounded, row_id, using, number)
    except Error as error:
        if dialect.insert_waits:  # and says without an error that a row is there
            raise
        match dialect.trouble(error):  # pragma: no cover - MariaDB
            case Trouble.TAKEN:
                raise ClaimConflict from error
            case Trouble.TIMED_OUT:
                raise ClaimBusy from error
            case _:
                raise


def claimed_by(
    statement: str,
    parameters: Parameters,
    row_id: uuid.UUID,
    using: str,
    number: str | None = None,
) -> Claim:
    """Claim a row of either table by a statement that writes it and locates it.

    `number` is that of the transaction, if it is known already.

    Raises:
        ClaimConflict: it has written no row.
    """
    connection = connections[using]
    cursor = connection.cursor()
    cursor.execute(statement, parameters)
    if cursor.rowcount != 1:
        raise ClaimConflict
    dialect = dialect_of(connection)
    location = until = None
    if dialect.rows_are_located:
        location, number, until, *_ = cursor.fetchone()
    elif dialect.numbers_transactions and number is None:
        number = dialect.number(cursor)
    kept = cursor if _is_djangos(connection) else None
    return Claim(row_id, connection, location, number, until, kept)


def _is_djangos(connection: BaseDatabaseWrapper) -> bool:
    """Whether a cursor is like any other of its connection.

    Those of other backends may choose the tenant's schema when they are opened, and the
    work may leave the connection in another one.
    """
    return type(connection).__module__.startswith("django.db.backends.")


# Note [The transaction of the claim]
# Nothing is kept, remembered or finished in another transaction than the one that has
# claimed. The work can end that one behind Django's back: by a COMMIT over the driver's
# own cursor, in a procedure, or by an error that rolls back more than its statement and
# is swallowed. The next statement then begins another one, or commits itself. PostgreSQL
# numbers its transactions, and every write after a claim depends on the number, without
# a round trip. Elsewhere a savepoint marks the transaction, and is gone with it.


def mark(claim: Claim) -> None:
    """Mark the transaction in which work follows the claim, if it has no number."""
    if claim.transaction is None:
        dialect_of(claim.connection).mark(claim.connection, claim.mark)


def require_transaction(claim: Claim) -> None:
    """Make sure, before the end of an operation is written, that nothing is lost.

    Raises:
        TransactionLost: the claim's transaction was ended.
    """
    if claim.transaction is not None:
        return  # Its number is a condition of each statement.
    if not dialect_of(claim.connection).is_marked(
        claim.connection, claim.mark
    ):  # pragma: no cover - MariaDB and SQLite
        raise TransactionLost(LOST)


def write_claimed(statement: str, parameters: Parameters, claim: Claim) -> bool:
    """Execute the statement on the claimed row; return whether it was written.

    Raises:
        TransactionLost: the claim's transaction was ended.
    """
    connection = claim.connection
    cursor = claim.cursor or connection.cursor()
    cursor.execute(statement, {**parameters, "transaction": claim.transaction})
    is_written: bool = cursor.rowcount == 1
    number = claim.transaction
    if not is_written and dialect_of(connection).number(cursor) != number:
        raise TransactionLost(LOST)
    return is_written


def lock(
    model: type[Model],
    row_id: uuid.UUID,
    *,
    using: str,
    wait: timedelta,
    location: str | None = None,
) -> None:
    """Lock an existing row, so that only one of many callers renews it.

    With a `location`, only if the row is still there.

    Raises:
        ClaimConflict: nothing is locked, since the row was deleted while somebody else
            had it. There may be a new one, which isn't the caller's to renew.
    """
    with locking(using, wait):
        # The base manager, since a project's own could join other tables.
        found = model._base_manager.using(using).select_for_update().filter(pk=row_id)
        found = dialect_of(connections[using]).found_at(found, location)
        if found.order_by().values_list("pk").first() is None:
            raise ClaimConflict


def read_row(
    statements: RecordStatements | EventStatements, row_id: uuid.UUID, *, using: str
) -> tuple[Any, ...] | None:
    """Read a row of either table: see Note [Reading what is newest]."""
    connection = connections[using]
    newest = connection.in_atomic_block
    statement = statements.read_newest if newest else statements.read
    return _fetched(statement, {"id": _db_id(row_id, connection)}, connection)


def fetched(
    statement: str, parameters: Parameters, using: str
) -> tuple[Any, ...] | None:
    return _fetched(statement, parameters, connections[using])


def _fetched(
    statement: str, parameters: Parameters, connection: BaseDatabaseWrapper
) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def is_broken(connection: BaseDatabaseWrapper) -> bool:
    """Whether the open transaction can only be rolled back.

    Django doesn't notice when a statement fails that the view has sent over the
    driver's own cursor; its COMMIT would then silently be a ROLLBACK.
    """
    return connection.needs_rollback or dialect_of(connection).is_aborted(connection)


def is_refusal(error: BaseException, using: str) -> bool:
    """Whether the database has refused a COMMIT, and rolled back for certain."""
    return isinstance(error, IntegrityError) or (
        isinstance(error, Error) and is_passing(error, using)
    )


def is_conflict(error: Error, using: str) -> bool:
    """Whether it says that others were first, and that all was rolled back for certain."""
    return trouble_of(connections[using], error) is Trouble.CONFLICT


def is_passing(error: Error, using: str) -> bool:
    """Whether others were first, or hold the one lock of a database: nothing was written."""
    return trouble_of(connections[using], error) in (Trouble.BUSY, Trouble.CONFLICT)


def watched(connection: BaseDatabaseWrapper) -> AbstractContextManager[None]:
    """Make sure that Django knows when the view's work breaks the transaction."""
    return dialect_of(connection).watching(connection)


def insert_or_update(
    insert: str,
    update: str,
    parameters: Parameters,
    *,
    row_id: uuid.UUID,
    using: str,
    make_way: str = "",
) -> bool:
    """Insert a row of either table, or update it if the update's condition allows.

    `make_way` deletes one that stands for nothing any more.

    In a small transaction of its own that doesn't wait. Returns whether it was written.

    Raises:
        Error: another session holds the row, or the database is not available.
    """
    with brief_transaction(using), connections[using].cursor() as cursor:
        if _is_inserted(insert, parameters, row_id, using):
            return True
        if make_way:
            cursor.execute(make_way, parameters)
            if cursor.rowcount == 1:
                return _is_inserted(insert, parameters, row_id, using)
        cursor.execute(update, parameters)
        written: bool = cursor.rowcount == 1
        return written


def _is_inserted(
    insert: str, parameters: Parameters, row_id: uuid.UUID, using: str
) -> bool:
    try:
        insert_first(insert, parameters, row_id, using, NO_WAIT)
    except ClaimConflict:
        return False
    except ClaimBusy as busy:  # pragma: no cover - MariaDB
        raise OperationalError("Another session holds the row.") from busy
    return True


def opened(
    connection: BaseDatabaseWrapper, wait: timedelta
) -> AbstractContextManager[None]:
    """Bound the waits from the beginning of a transaction, BEGIN included."""
    return dialect_of(connection).opening(connection, wait)


def looking(
    connection: BaseDatabaseWrapper, wait: timedelta
) -> AbstractContextManager[None]:
    """Bound a read of a committed row, outside of a transaction."""
    return dialect_of(connection).looking(connection, wait)


def bounds_claims(using: str) -> bool:
    """Whether claims take a transaction, and are bounded as a whole by themselves."""
    return dialect_of(connections[using]).bounds_claims


def looking_anywhere(
    connection: BaseDatabaseWrapper, wait: timedelta
) -> AbstractContextManager[None]:
    """The same for a row that may be committed in another node of a cluster."""
    return dialect_of(connection).looking_anywhere(connection, wait)


def brief_wait(using: str) -> timedelta:
    """Return how long what is noted after the work may wait."""
    return dialect_of(connections[using]).brief_wait


def too_late(using: str) -> ClaimFailed:
    """Return what it means that the wait is over: the key is in use, or the database."""
    return StoreBusy() if dialect_of(connections[using]).one_lock else ClaimTimedOut()


def locking(using: str, wait: timedelta) -> AbstractContextManager[None]:
    """Bound how long the statements in a transaction wait for others."""
    connection = connections[using]
    return dialect_of(connection).locking(connection, wait)


def place_of(
    row_id: uuid.UUID, connection: BaseDatabaseWrapper
) -> tuple[str, Any, uuid.UUID]:
    """Return what tells a row from those of other databases and of other schemas.

    Backends for tenants, such as django-tenants', name the schema on the connection.
    """
    return connection.alias, getattr(connection, "schema_name", None), row_id


def is_inside(using: str) -> bool:
    """Whether a transaction is open, ours or somebody else's."""
    return connections[using].in_atomic_block


def is_unused(connection: BaseDatabaseWrapper) -> bool:
    """Whether nothing in this request has used it yet.

    What has used it may have set something for its session, such as the tenant whose
    rows it may see; on another connection of the pool another tenant's may hold.
    """
    return connection.connection is None


def give_connection_back(using: str) -> None:
    """Give the connection back to its pool while nothing needs it.

    Only where it was unused before us. One that isn't pooled stays open.
    """
    connection: Any = connections[using]
    # An outer transaction may be open, such as a test case's.
    if getattr(connection, "pool", None) and not connection.in_atomic_block:
        connection.close()


def storable(text: str) -> str:
    """Return text that every database accepts; what it can't store is escaped."""
    encoded = text.encode("utf-8", "backslashreplace")
    return encoded.decode().replace("\0", "\\x00")


@contextmanager
def brief_transaction(using: str) -> Iterator[None]:
    """A transaction that gives up rather than wait for somebody's row."""
    with (
        opened(connections[using], brief_wait(using)),
        transaction.atomic(using=using),
        locking(using, NO_WAIT),
    ):
        yield


def at_row(row_id: uuid.UUID, location: str | None, using: str) -> Parameters:
    """The parameters of a dialect's `at_row`."""
    return {"id": db_id(row_id, using), "location": location}


def at_claim(claim: Claim) -> Parameters:
    """The parameters of a dialect's `at_row`, for the row that was claimed."""
    return {"id": _db_id(claim.row_id, claim.connection), "location": claim.location}


def db_id(record_id: uuid.UUID, using: str) -> Any:
    """Return the id, or a lease's token, as a parameter."""
    return _db_id(record_id, connections[using])


def _db_id(record_id: uuid.UUID, connection: BaseDatabaseWrapper) -> Any:
    return ID.get_db_prep_value(record_id, connection, prepared=True)


def fits(body: bytes | None, connection: BaseDatabaseWrapper) -> bool:
    """Whether the database takes a statement with so long a body."""
    return body is None or dialect_of(connection).fits(connection, body)


def binary(body: bytes | None, connection: Any) -> Any:
    return None if body is None else connection.Database.Binary(body)


def payload_parameter(body: bytes | None, row_id: uuid.UUID, using: str) -> Any:
    """Return an event's payload as a parameter; without it the event would be lost.

    Raises:
        DataError: the database takes no statement that long.
    """
    connection = connections[using]
    if body is not None:
        body = at_rest.stored(body, at_rest.of_payload(row_id))
    if not fits(body, connection):  # pragma: no cover - MariaDB
        raise DataError(
            f"A body of {len(body or b'')} bytes is longer than the max_allowed_packet "
            f"of database {using!r} lets it be stored. Let the server take "
            "more, or choose a smaller max_body."
        )
    return binary(body, connection)
