"""Everything that is asked of the database about records: one row, found by its id.

The verbs run in whatever transaction is open on the alias; the engine opens them. Times
are compared and written by the database's clock.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import Error, OperationalError, connections, router, transaction
from django.db.models import Model

from .decisions import RowView, State
from .dialects import Trouble, dialect_of, milliseconds, trouble_of
from .exceptions import (
    ClaimBusy,
    ClaimConflict,
    ClaimOutrun,
    ClaimTimedOut,
    LeaseLost,
    StoreUnavailable,
)
from .models import IdempotencyRecord
from .operations import Operation, StoredAnswer
from .statements import EventStatements, RecordStatements, record_statements

__all__ = [
    "Claim",
    "Lease",
    "binary",
    "brief_transaction",
    "claim",
    "claim_errors",
    "claim_leased",
    "claimed_by",
    "count_replay",
    "db_id",
    "extend",
    "give_connection_back",
    "insert_first",
    "insert_or_update",
    "is_broken",
    "keep",
    "keep_leased",
    "lock",
    "locking",
    "note_failure",
    "opened",
    "read",
    "read_effects",
    "read_locked",
    "read_row",
    "record_alias",
    "release_leased",
    "remember",
    "renew",
    "storable",
    "take_over",
    "watched",
]

NO_WAIT = timedelta(0)

ID = IdempotencyRecord._meta.pk


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run, held by the open transaction."""

    record_id: uuid.UUID
    location: str | None
    """Where the row is (PostgreSQL's ctid), good only inside this transaction."""
    cursor: Any = field(repr=False, compare=False)
    """What the row was written with; a second one would cost as much as the first."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A claim that is committed and lives for a while."""

    record_id: uuid.UUID
    length: timedelta
    token: uuid.UUID = field(default_factory=uuid.uuid4)
    """Only its owner writes to the row, wherever the clock stands."""

    @property
    def seconds(self) -> float:
        return self.length.total_seconds()

    def token_in(self, using: str) -> Any:
        return db_id(self.token, using)

    def parameters_in(self, using: str) -> list[Any]:
        return [db_id(self.record_id, using), self.token_in(using)]


def record_alias() -> str:
    """Return the database that records are written to *and read from*.

    Never a replica: it would not have heard of the first request yet.
    """
    return router.db_for_write(IdempotencyRecord)


@contextmanager
def claim_errors(using: str) -> Iterator[None]:
    """Translate what the database says while a claim is tried.

    Raises:
        ClaimOutrun, ClaimTimedOut, StoreUnavailable
    """
    try:
        yield
    except Error as error:
        match trouble_of(connections[using], error):
            case Trouble.CONFLICT:
                raise ClaimOutrun from error
            case Trouble.TIMED_OUT:
                raise ClaimTimedOut from error
            case Trouble.DISCONNECTED:
                raise StoreUnavailable(is_disconnect=True) from error
            case Trouble.UNAVAILABLE:
                raise StoreUnavailable(is_disconnect=False) from error
            case Trouble.TAKEN | None:  # pragma: no branch - mypy proves it
                raise


def claim(operation: Operation, *, using: str, wait: timedelta) -> Claim:
    """Insert the record, waiting for an uncommitted one of the same key.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
    """
    return _insert(_statements(using).claim, operation, [], using=using, wait=wait)


def claim_leased(
    operation: Operation, lease: Lease, *, using: str, wait: timedelta
) -> Claim:
    """Insert the record with a lease; the claim is to be committed at once.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
    """
    more = [lease.token_in(using), lease.seconds]
    statement = _statements(using).claim_leased
    return _insert(statement, operation, more, using=using, wait=wait)


def _insert(
    statement: str,
    operation: Operation,
    more: list[Any],
    *,
    using: str,
    wait: timedelta,
) -> Claim:
    retention = operation.retention.total_seconds()
    parameters = [*_identity(operation, using), "", retention, *more]
    return insert_first(statement, parameters, operation.record_id, using, wait)


def insert_first(
    statement: str,
    parameters: list[Any],
    row_id: uuid.UUID,
    using: str,
    wait: timedelta,
) -> Claim:
    """Claim a row of either table by inserting it, waiting for an uncommitted one.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
        ClaimBusy: there may be one, and this kind of database doesn't wait here.
    """
    dialect = dialect_of(connections[using])
    if dialect.claim_waits:
        parameters = [*parameters, milliseconds(wait)]
    try:
        return claimed_by(statement, parameters, row_id, using)
    except Error as error:
        match dialect.trouble(error):
            case Trouble.TAKEN:  # pragma: no cover - MariaDB
                raise ClaimConflict from error
            case Trouble.TIMED_OUT if (  # pragma: no cover - MariaDB
                not dialect.insert_waits
            ):
                raise ClaimBusy from error
            case _:
                raise


def claimed_by(
    statement: str, parameters: list[Any], row_id: uuid.UUID, using: str
) -> Claim:
    """Claim a row of either table by a statement that writes it and says where it is.

    Raises:
        ClaimConflict: it wrote none.
    """
    connection = connections[using]
    cursor = connection.cursor()
    cursor.execute(statement, parameters)
    if cursor.rowcount != 1:
        raise ClaimConflict
    located = dialect_of(connection).rows_are_located
    return Claim(row_id, cursor.fetchone()[0] if located else None, cursor)


def lock(
    model: type[Model],
    row_id: uuid.UUID,
    *,
    using: str,
    wait: timedelta,
    location: str | None = None,
) -> None:
    """Lock a row that exists, so that of many callers who want to renew it one does.

    With a `location` only if it is still there.
    """
    with locking(using, wait):
        # By the base manager: a project's own could join tables in.
        rows = model._base_manager.using(using).select_for_update()
        if location is not None:
            rows = rows.extra(where=["ctid = %s::tid"], params=[location])
        rows.filter(pk=row_id).order_by().values_list("pk").first()


def renew(operation: Operation, location: str | None, *, using: str) -> Claim:
    """Claim the locked row: a new life if it had expired, else another attempt."""
    return _renew(_statements(using).renew, operation, [], location, using=using)


def take_over(
    operation: Operation, lease: Lease, location: str | None, *, using: str
) -> Claim:
    """Claim the locked row with a lease; its last owner's token is worth nothing now."""
    more = [lease.token_in(using), lease.seconds]
    return _renew(_statements(using).take_over, operation, more, location, using=using)


def _renew(
    statement: str,
    operation: Operation,
    more: list[Any],
    location: str | None,
    *,
    using: str,
) -> Claim:
    parameters = [
        operation.fingerprint.sign(),
        *more,
        operation.retention.total_seconds(),
        *_at(operation.record_id, location, using),
    ]
    return claimed_by(statement, parameters, operation.record_id, using)


def read(record_id: uuid.UUID, *, using: str) -> RowView | None:
    """Return the committed row (or this transaction's own), if there is one."""
    return _view(read_row(_statements(using), record_id, using=using))


def read_locked(
    record_id: uuid.UUID, location: str | None, *, using: str
) -> RowView | None:
    """Return the row that `lock` has found at this location, if it has."""
    parameters = _at(record_id, location, using)
    return _view(_fetched(_statements(using).read_locked, parameters, using))


def read_row(
    statements: RecordStatements | EventStatements, row_id: uuid.UUID, *, using: str
) -> tuple[Any, ...] | None:
    """Read a row of either table: see Note [Reading what is newest]."""
    newest = connections[using].in_atomic_block
    statement = statements.read_newest if newest else statements.read
    return _fetched(statement, [db_id(row_id, using)], using)


def _fetched(
    statement: str, parameters: list[Any], using: str
) -> tuple[Any, ...] | None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def _view(row: tuple[Any, ...] | None) -> RowView | None:
    if row is None:
        return None
    scope, key, fingerprint, state, status, headers, body, expired, left, location = row
    return RowView(
        scope=scope,
        key=key,
        fingerprint=fingerprint,
        state=state,
        expired=bool(expired),
        answer=_answer(status, headers, body),
        lease_left=None if left is None else timedelta(seconds=left),
        location=location,
    )


def read_effects(claim: Claim, *, using: str) -> Any:
    """Return what the claimed row remembers of its steps."""
    parameters = _at(claim.record_id, claim.location, using)
    with connections[using].cursor() as cursor:
        cursor.execute(_statements(using).read_effects, parameters)
        return json.loads(cursor.fetchone()[0])


def keep(claim: Claim, answer: StoredAnswer, *, using: str) -> None:
    """Store the answer; it is kept when the transaction commits."""
    parameters = _answer_parameters(answer, using)
    parameters += _at(claim.record_id, claim.location, using)
    claim.cursor.execute(_statements(using).keep, parameters)
    if claim.cursor.rowcount != 1:
        raise RuntimeError(
            "The claimed record is gone: something in the view deleted or changed it. "
            "Nothing was committed."
        )


def remember(lease: Lease, effects: object, state: State, *, using: str) -> None:
    """Write what has been done, in whatever transaction is open.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    parameters: list[Any] = [json.dumps(effects), state.value]
    _execute_owned(_statements(using).remember, parameters, lease, using)


def extend(lease: Lease, by: timedelta, *, using: str) -> None:
    """Let the lease end so long from now.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    _execute_owned(_statements(using).extend, [by.total_seconds()], lease, using)


def keep_leased(lease: Lease, answer: StoredAnswer, *, using: str) -> None:
    """Store the answer and end the lease.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    parameters = _answer_parameters(answer, using)
    _execute_owned(_statements(using).keep_leased, parameters, lease, using)


def release_leased(lease: Lease, failure: str | None, *, using: str) -> None:
    """End the lease. Without a failure to note, a row that remembers nothing goes.

    Raises:
        LeaseLost: another owner has the row, or a person has settled it.
    """
    statements = _statements(using)
    if failure is None:
        with connections[using].cursor() as cursor:
            cursor.execute(statements.forget_leased, lease.parameters_in(using))
            if cursor.rowcount == 1:
                return
    _execute_owned(statements.release_leased, [(failure or "")[:255]], lease, using)


def _execute_owned(
    statement: str, parameters: list[Any], lease: Lease, using: str
) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [*parameters, *lease.parameters_in(using)])
        if cursor.rowcount != 1:
            raise LeaseLost("The operation has another owner by now.")


def is_broken(using: str) -> bool:
    """Whether the open transaction can only be rolled back.

    Django doesn't notice when a statement fails that was sent by a cursor of the view's
    own; the COMMIT would silently be a ROLLBACK.
    """
    connection = connections[using]
    return connection.needs_rollback or dialect_of(connection).is_aborted(connection)


def watched(using: str) -> AbstractContextManager[None]:
    """Let Django know when work that isn't ours breaks the transaction."""
    connection = connections[using]
    return dialect_of(connection).watching(connection)


def note_failure(operation: Operation, error_name: str, *, using: str) -> None:
    """Leave a released row, where the row is absent or released already.

    In a small transaction of its own that doesn't wait: a copy may be running by now,
    and its row is none of our business.
    """
    statements = _statements(using)
    identity, note = _identity(operation, using), error_name[:255]
    retention = operation.retention.total_seconds()
    insert_or_update(
        statements.insert_failure,
        [*identity, note, retention],
        statements.note_failure,
        [
            note,
            operation.fingerprint.sign(),
            retention,
            db_id(operation.record_id, using),
        ],
        row_id=operation.record_id,
        using=using,
    )


def insert_or_update(
    insert: str,
    fresh: list[Any],
    update: str,
    changes: list[Any],
    *,
    row_id: uuid.UUID,
    using: str,
) -> bool:
    """Write a row of either table where it is absent, or as the update allows.

    In a small transaction of its own that doesn't wait. Returns whether it was written.

    Raises:
        Error: somebody has the row, or the database is not available.
    """
    with brief_transaction(using):
        try:
            insert_first(insert, fresh, row_id, using, NO_WAIT)
            return True
        except ClaimBusy as busy:  # pragma: no cover - MariaDB
            raise OperationalError("Somebody has the row.") from busy
        except ClaimConflict:
            pass
        with connections[using].cursor() as cursor:
            cursor.execute(update, changes)
            written: bool = cursor.rowcount == 1
            return written


def count_replay(record_id: uuid.UUID, *, using: str) -> None:
    """Count one replay, unless somebody holds the row just now.

    A power cut may take it back: nobody waits for the disk because of it.
    """
    connection, statements = connections[using], _statements(using)
    is_alone = connection.get_autocommit()
    with ExitStack() as stack:
        stack.enter_context(opened(using, NO_WAIT))
        if not is_alone:  # such as in a test case's transaction
            stack.enter_context(transaction.atomic(using=using))
        cursor = stack.enter_context(connection.cursor())
        cursor.execute(
            statements.count_replay_alone if is_alone else statements.count_replay,
            [db_id(record_id, using)],
        )


def opened(using: str, wait: timedelta) -> AbstractContextManager[None]:
    """Bound what happens before the first statement of a transaction, too."""
    connection = connections[using]
    return dialect_of(connection).opening(connection, wait)


def locking(using: str, wait: timedelta) -> AbstractContextManager[None]:
    """Bound how long the statements in a transaction wait for others."""
    connection = connections[using]
    return dialect_of(connection).locking(connection, wait)


def give_connection_back(using: str) -> None:
    """Hold nothing of a pool's while somebody else is waited for.

    A connection of this thread's own stays open, with what the project has set on it.
    """
    connection: Any = connections[using]
    # The transaction may be somebody else's, such as a test case's.
    if getattr(connection, "pool", None) and not connection.in_atomic_block:
        connection.close()


def storable(text: str) -> str:
    """Return text that every database takes; what it can't store becomes visible."""
    encoded = text.encode("utf-8", "backslashreplace")
    return encoded.decode().replace("\0", "\\x00")


@contextmanager
def brief_transaction(using: str) -> Iterator[None]:
    """A transaction that gives up rather than wait for a lock."""
    with (
        opened(using, NO_WAIT),
        transaction.atomic(using=using),
        locking(using, NO_WAIT),
    ):
        yield


def _statements(using: str) -> RecordStatements:
    return record_statements(dialect_of(connections[using]))


def _answer_parameters(answer: StoredAnswer, using: str) -> list[Any]:
    return [
        answer.status,
        json.dumps(answer.headers),
        binary(answer.body, connections[using]),
    ]


def _identity(operation: Operation, using: str) -> list[Any]:
    scope = operation.scope
    return [
        db_id(operation.record_id, using),
        storable(str(scope)),
        operation.key,
        scope.method,
        storable(scope.path),
        operation.fingerprint.sign(),
    ]


def _at(record_id: uuid.UUID, location: str | None, using: str) -> list[Any]:
    """The parameters of a dialect's `at_row`."""
    located = dialect_of(connections[using]).rows_are_located
    return [*([location] if located else []), db_id(record_id, using)]


def db_id(record_id: uuid.UUID, using: str) -> Any:
    """Return the id, or a lease's token, as a parameter."""
    return ID.get_db_prep_value(record_id, connections[using], prepared=True)


def binary(body: bytes | None, connection: Any) -> Any:
    return None if body is None else connection.Database.Binary(body)


def _answer(
    status: int | None, headers: str | None, body: bytes | memoryview | None
) -> StoredAnswer | None:
    """Return the stored answer; ``None`` if it can't have been stored by us."""
    try:
        stored = json.loads(headers or "")
        pairs = tuple((str(name), str(value)) for name, value in stored)
    except (TypeError, ValueError):
        return None
    if not all(_can_be_sent(name, value) for name, value in pairs):
        return None
    if status is None or not 100 <= status <= 599:
        return None
    return StoredAnswer(
        status=status, headers=pairs, body=None if body is None else bytes(body)
    )


def _can_be_sent(name: str, value: str) -> bool:
    return name.isascii() and name != "" and not {"\r", "\n"} & {*name, *value}
