"""Everything that is asked of the database about webhook events.

The verbs run in whatever transaction is open on the alias. Times are compared and
written by the database's clock.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connections, router
from django.utils import timezone

from .conf import conf
from .dialects import dialect_of
from .fields import UtcNow
from .models import ProcessedEvent
from .operations import EventIdentity
from .statements import EventStatements, event_statements
from .store import (
    Claim,
    binary,
    brief_transaction,
    claim_errors,
    claimed_by,
    db_id,
    insert_first,
    insert_or_update,
    read_row,
    storable,
)

__all__ = ["EventRow", "NewEvent", "StoredEvent", "event_alias"]

STATE = ProcessedEvent.State

A_MOMENT = timedelta(seconds=1)
"""How long a worker waits for a row that should be its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """What one delivery says about one event."""

    row_id: uuid.UUID
    identity: EventIdentity
    """The provider's, for people; the row may have another one."""
    event_type: str
    object_key: str
    body_digest: str
    headers: dict[str, str]
    occurred_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A committed event as one delivery sees it."""

    state: str
    attempts: int
    expired: bool
    """Never one that was given up: it waits for a person."""
    is_due: bool
    """Whether it waits in the inbox."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """An event with its payload, locked by who took it."""

    row_id: uuid.UUID
    identity: EventIdentity
    """The provider's, for people; the row may have another one."""
    event_type: str
    object_key: str
    headers: dict[str, str]
    payload: bytes
    attempts: int


def event_alias() -> str:
    """Return the database that events are written to *and read from*."""
    return router.db_for_write(ProcessedEvent)


def claim(event: NewEvent, *, using: str, wait: timedelta) -> Claim:
    """Insert the event, waiting for an uncommitted one.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
    """
    parameters = _fresh(event, using, attempts=1)
    return insert_first(_statements(using).claim, parameters, event.row_id, using, wait)


def put_into_inbox(
    event: NewEvent, payload: bytes, *, using: str, wait: timedelta
) -> Claim:
    """Insert the event with its payload, due at once.

    Raises:
        ClaimConflict: a committed row is there.
    """
    parameters = _fresh(event, using, attempts=0, payload=payload)
    return insert_first(_statements(using).store, parameters, event.row_id, using, wait)


def take_over(row_id: uuid.UUID, *, using: str) -> Claim:
    """Claim the locked row of an event whose last attempt failed.

    Raises:
        ClaimConflict: it waits in the inbox.
    """
    parameters = [_retention(), db_id(row_id, using)]
    return claimed_by(_statements(using).take_over, parameters, row_id, using)


def forget(row_id: uuid.UUID, *, using: str) -> None:
    """Delete the locked row of an event that begins a new life."""
    ProcessedEvent._base_manager.using(using).filter(pk=row_id).delete()


def read(row_id: uuid.UUID, *, using: str) -> EventRow | None:
    """Return the committed row (or this transaction's own), if there is one."""
    row = read_row(_statements(using), row_id, using=using)
    if row is None:
        return None
    state, attempts, expired, is_due = row
    return EventRow(
        state=state,
        attempts=attempts,
        expired=bool(expired),
        is_due=bool(is_due),
    )


def settle(claim: Claim, state: str, *, payload: bytes | None, using: str) -> None:
    """Mark the claimed event; it is so when the transaction commits."""
    connection = connections[using]
    parameters: list[Any] = [state, binary(payload, connection)]
    if dialect_of(connection).rows_are_located:
        parameters.append(claim.location)
    parameters.append(db_id(claim.record_id, using))
    _execute_on_one(_statements(using).settle, parameters, using)


def note_failure(
    event: NewEvent,
    state: str,
    error_name: str,
    *,
    payload: bytes | None,
    using: str,
) -> bool:
    """Leave a failed or dead row where the row is absent or failed already.

    In a small transaction of its own that doesn't wait. Returns whether it was written:
    if not, another delivery has done the event meanwhile.
    """
    statements = _statements(using)
    stored = binary(payload, connections[using])
    return insert_or_update(
        statements.insert_dead if state == STATE.DEAD else statements.insert_failed,
        _fresh(event, using, attempts=1, payload=payload, last_error=error_name),
        statements.note_failure,
        [state, stored, error_name[:255], db_id(event.row_id, using)],
        row_id=event.row_id,
        using=using,
    )


def begin_next(*, using: str, free_after: timedelta) -> uuid.UUID | None:
    """Raise the attempts of the next due event and return its id; ``None``: none is due.

    To be committed before the handler runs: an event that kills its worker must not
    start from zero each time. Until `free_after` no other worker takes it.
    """
    statements = _statements(using)
    with connections[using].cursor() as cursor:
        cursor.execute(statements.due, [])
        row = cursor.fetchone()
        if row is None:
            return None
        cursor.execute(statements.begin, [free_after.total_seconds(), row[0]])
        return row[0] if isinstance(row[0], uuid.UUID) else uuid.UUID(row[0])


def take(row_id: uuid.UUID, *, using: str) -> StoredEvent | None:
    """Lock and return an event whose attempt has begun; ``None``: it is done meanwhile.

    It waits for a moment, since its row may be locked by a worker that looks for work:
    one that finds a row due, and begun by us once it has the lock, goes on to the next
    but keeps the lock until its commit.

    Raises:
        ClaimTimedOut: another worker has it.
    """
    statements = _statements(using)
    parameters = [db_id(row_id, using)]
    with connections[using].cursor() as cursor:
        cursor.execute(statements.take_at_once, parameters)
        row = cursor.fetchone()
    if row is None:
        row = _waited_for(statements.take, parameters, using)
    return None if row is None else _stored_event(row_id, row)


def take_finished(row_id: uuid.UUID, *, using: str) -> StoredEvent | None:
    """Lock and return an event that is not to be tried any more but has its payload.

    Raises:
        ClaimTimedOut: another one is running it.
    """
    row = _waited_for(_statements(using).take_finished, [db_id(row_id, using)], using)
    return None if row is None else _stored_event(row_id, row)


def _waited_for(statement: str, parameters: list[Any], using: str) -> Any:
    connection = connections[using]
    with (
        claim_errors(using),
        dialect_of(connection).locking(connection, A_MOMENT),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement, parameters)
        return cursor.fetchone()


def _stored_event(row_id: uuid.UUID, row: tuple[Any, ...]) -> StoredEvent:
    endpoint, source, account, event_id, event_type, object_key, *rest = row
    headers, payload, attempts = rest
    return StoredEvent(
        row_id=row_id,
        identity=EventIdentity(
            endpoint=endpoint, source=source, account=account, event_id=event_id
        ),
        event_type=event_type,
        object_key=object_key,
        headers=json.loads(headers),
        payload=bytes(payload),
        attempts=attempts,
    )


def reopen(row_id: uuid.UUID, *, reason: str, by: str, using: str) -> bool:
    """Record why a finished event is to run again; say whether its payload is there.

    With a payload this counts as the attempt's beginning. Without, the event becomes a
    failed one, so that the next delivery takes it over.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: the event is still to be tried anyway.
    """
    rows = ProcessedEvent._base_manager.using(using)
    row = rows.select_for_update().defer("occurred_at").get(pk=row_id)
    if row.next_attempt_at is not None:
        raise ValueError("The event waits in the inbox and will be tried anyway.")
    has_payload = row.payload is not None
    row.attempts = row.attempts + 1 if has_payload else 0
    row.state = row.state if has_payload else STATE.FAILED
    row.reruns = [
        *row.reruns,
        {"at": timezone.now().isoformat(), "by": by, "reason": reason},
    ]
    # Afterwards it is a duplicate again, and for as long as a new one.
    row.expires_at = UtcNow() + conf.IDEMPOTENCY_EVENT_RETENTION
    row.save(using=using, update_fields=["attempts", "state", "reruns", "expires_at"])
    return has_payload


def finish(row_id: uuid.UUID, state: str, *, payload: bytes | None, using: str) -> None:
    """Mark the locked event as done, with the handler's writes."""
    parameters = [state, binary(payload, connections[using]), db_id(row_id, using)]
    _execute_on_one(_statements(using).finish, parameters, using)


def retry_later(
    row_id: uuid.UUID,
    attempts: int,
    error_name: str,
    *,
    after: timedelta,
    using: str,
) -> None:
    """Note a failed attempt, unless another one has begun meanwhile.

    In a small transaction of its own that doesn't wait, as `bury`.
    """
    parameters = [
        STATE.FAILED.value,
        error_name[:255],
        after.total_seconds(),
        db_id(row_id, using),
        attempts,
    ]
    with brief_transaction(using), connections[using].cursor() as cursor:
        cursor.execute(_statements(using).retry, parameters)


def bury(row_id: uuid.UUID, attempts: int, error_name: str, *, using: str) -> bool:
    """Give the event up; its payload stays. Returns whether this call did it."""
    parameters = [
        STATE.DEAD.value,
        error_name[:255],
        db_id(row_id, using),
        attempts,
    ]
    with brief_transaction(using), connections[using].cursor() as cursor:
        cursor.execute(_statements(using).bury, parameters)
        written: bool = cursor.rowcount == 1
        return written


def _statements(using: str) -> EventStatements:
    return event_statements(dialect_of(connections[using]))


def _retention() -> float:
    return conf.IDEMPOTENCY_EVENT_RETENTION.total_seconds()


def _fresh(
    event: NewEvent,
    using: str,
    *,
    attempts: int,
    payload: bytes | None = None,
    last_error: str = "",
) -> list[Any]:
    connection = connections[using]
    identity = event.identity
    return [
        db_id(event.row_id, using),
        identity.endpoint,
        identity.source,
        storable(identity.account),
        storable(identity.event_id),
        storable(event.event_type)[:255],
        storable(event.object_key)[:255],
        event.body_digest,
        json.dumps(event.headers),
        connection.ops.adapt_datetimefield_value(event.occurred_at),
        binary(payload, connection),
        attempts,
        last_error[:255],
        _retention(),
    ]


def _execute_on_one(statement: str, parameters: list[Any], using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(statement, parameters)
        if cursor.rowcount != 1:
            raise RuntimeError(
                "The claimed event is gone: something in the handler deleted or changed "
                "it. Nothing was committed."
            )
