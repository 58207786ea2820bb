"""Everything that is asked of the database about records: one row, found by its id.

The verbs run in whatever transaction is open on the alias; the engine opens them. Times
are compared and written by the database's clock.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.db import Error, connections, router, transaction

from .decisions import RowView
from .dialects import Trouble, dialect_of, milliseconds
from .exceptions import ClaimConflict, ClaimOutrun, ClaimTimedOut, StoreUnavailable
from .models import IdempotencyRecord
from .operations import Operation, StoredAnswer
from .statements import RecordStatements, record_statements

__all__ = [
    "Claim",
    "binary",
    "brief_transaction",
    "claim",
    "claim_errors",
    "count_replay",
    "db_id",
    "is_aborted",
    "keep",
    "lock",
    "note_failure",
    "opened",
    "read",
    "record_alias",
    "renew",
    "storable",
]

NO_WAIT = timedelta(0)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run, held by the open transaction."""

    record_id: uuid.UUID
    location: str | None = None
    """Where the row is (PostgreSQL's ctid), good only inside this transaction."""


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
        match dialect_of(connections[using]).trouble(error):
            case Trouble.CONFLICT:
                raise ClaimOutrun from error
            case Trouble.TIMED_OUT:
                raise ClaimTimedOut from error
            case Trouble.DISCONNECTED:
                raise StoreUnavailable(is_disconnect=True) from error
            case Trouble.UNAVAILABLE:
                raise StoreUnavailable(is_disconnect=False) from error
            case None:  # pragma: no branch - mypy proves there is no other
                raise


def claim(operation: Operation, *, using: str, wait: timedelta) -> Claim:
    """Insert the record, waiting for an uncommitted one of the same key.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
    """
    connection = connections[using]
    dialect = dialect_of(connection)
    parameters = [*_identity(operation, using), "", operation.retention.total_seconds()]
    if dialect.claim_waits:
        parameters.append(milliseconds(wait))
    with connection.cursor() as cursor:
        cursor.execute(_statements(using).claim, parameters)
        if cursor.rowcount != 1:
            raise ClaimConflict
        location = cursor.fetchone()[0] if dialect.rows_are_located else None
    return Claim(operation.record_id, location)


def lock(record_id: uuid.UUID, *, using: str, wait: timedelta) -> None:
    """Lock a row that exists, so that of many callers who want to renew it one does."""
    connection = connections[using]
    with dialect_of(connection).locking(connection, wait):
        # By the base manager: a project's own could join tables in.
        rows = IdempotencyRecord._base_manager.using(using).select_for_update()
        rows.filter(pk=record_id).values_list("pk").first()


def renew(operation: Operation, *, using: str) -> Claim:
    """Claim the locked row: a new life if it had expired, else another attempt."""
    connection = connections[using]
    dialect = dialect_of(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            _statements(using).renew,
            [
                operation.fingerprint.sign(),
                operation.retention.total_seconds(),
                db_id(operation.record_id, using),
            ],
        )
        if cursor.rowcount != 1:
            raise ClaimConflict
        location = cursor.fetchone()[0] if dialect.rows_are_located else None
    return Claim(operation.record_id, location)


def read(record_id: uuid.UUID, *, using: str) -> RowView | None:
    """Return the committed row (or this transaction's own), if there is one."""
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(_statements(using).read, [db_id(record_id, using)])
        row = cursor.fetchone()
    if row is None:
        return None
    scope, key, fingerprint, state, status, headers, body, expired = row
    return RowView(
        scope=scope,
        key=key,
        fingerprint=fingerprint,
        state=state,
        expired=bool(expired),
        answer=_answer(status, headers, body),
    )


def keep(claim: Claim, answer: StoredAnswer, *, using: str) -> None:
    """Store the answer; it is kept when the transaction commits."""
    connection = connections[using]
    dialect = dialect_of(connection)
    parameters: list[Any] = [
        answer.status,
        json.dumps(answer.headers),
        binary(answer.body, connection),
    ]
    if dialect.rows_are_located:
        parameters.append(claim.location)
    with connection.cursor() as cursor:
        parameters.append(db_id(claim.record_id, using))
        cursor.execute(_statements(using).keep, parameters)
        if cursor.rowcount != 1:
            raise RuntimeError(
                "The claimed record is gone: something in the view deleted or changed "
                "it. Nothing was committed."
            )


def is_aborted(using: str) -> bool:
    """Whether the database itself has given the open transaction up.

    Django doesn't notice when a statement fails that was sent by a cursor of the view's
    own; the COMMIT would silently be a ROLLBACK.
    """
    connection = connections[using]
    return dialect_of(connection).is_aborted(connection)


def note_failure(operation: Operation, error_name: str, *, using: str) -> None:
    """Leave a released row, where the row is absent or released already.

    In a small transaction of its own that doesn't wait: a copy may be running by now,
    and its row is none of our business.
    """
    with brief_transaction(using), connections[using].cursor() as cursor:
        cursor.execute(
            _statements(using).note_failure,
            [
                *_identity(operation, using),
                error_name[:255],
                operation.retention.total_seconds(),
            ],
        )


def count_replay(record_id: uuid.UUID, *, using: str) -> None:
    """Count one replay, unless somebody holds the row just now."""
    connection = connections[using]
    with (
        opened(using, NO_WAIT),
        transaction.atomic(using=using),
        connection.cursor() as cursor,
    ):
        cursor.execute(_statements(using).count_replay, [db_id(record_id, using)])


@contextmanager
def opened(using: str, wait: timedelta) -> Iterator[None]:
    """Bound what happens before the first statement of a transaction, too."""
    connection = connections[using]
    with dialect_of(connection).opening(connection, wait):
        yield


def storable(text: str) -> str:
    """Return text that every database takes; what it can't store becomes visible."""
    encoded = text.encode("utf-8", "backslashreplace")
    return encoded.decode().replace("\0", "\\x00")


@contextmanager
def brief_transaction(using: str) -> Iterator[None]:
    """A transaction that gives up rather than wait for a lock."""
    connection = connections[using]
    dialect = dialect_of(connection)
    with (
        dialect.opening(connection, NO_WAIT),
        transaction.atomic(using=using),
        dialect.locking(connection, NO_WAIT),
    ):
        yield


def _statements(using: str) -> RecordStatements:
    return record_statements(dialect_of(connections[using]))


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


def db_id(record_id: uuid.UUID, using: str) -> Any:
    native = connections[using].features.has_native_uuid_field
    return record_id if native else record_id.hex


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
