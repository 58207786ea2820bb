"""All queries about webhook events.

The verbs run in whatever transaction is open on the alias. Times are compared and
written by the database's clock.
"""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.db import connections, router

from django_idempotency.conf import LONGEST_DURATION, conf
from django_idempotency.core import at_rest
from django_idempotency.core.attempts import Way, noted_attempt
from django_idempotency.core.events import EventFacts, EventState
from django_idempotency.models import ProcessedEvent

from .dialects import dialect_of
from .rows import (
    Claim,
    Parameters,
    at_claim,
    brief_transaction,
    claim_errors,
    claimed_by,
    db_id,
    insert_first,
    insert_or_update,
    mark,
    payload_parameter,
    read_row,
    require_transaction,
    storable,
    write_claimed,
)
from .statements import EventStatements, event_statements

OCCURRED_AT = ProcessedEvent._meta.get_field("occurred_at")

A_MOMENT = timedelta(seconds=1)
"""How long a worker waits for the row of an event whose attempt it has begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """What one delivery says about one event."""

    row_id: uuid.UUID
    endpoint: str
    facts: EventFacts
    is_ordered: bool
    """Whether it waits for earlier events of its object."""
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """A committed event as one delivery sees it."""

    state: str
    attempts: int
    uncounted_attempts: int
    """Those that don't use up `max_attempts`."""
    expired: bool
    """Never true of an event that was given up: that waits for a person."""
    is_due: bool
    """Whether it waits in the inbox."""
    is_lost: bool
    """Whether its handler has ended the transaction of its claim."""
    age: float
    """Seconds since its first delivery was received."""


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """An event with its payload, locked by whoever took it."""

    row_id: uuid.UUID
    endpoint: str
    facts: EventFacts
    """Without the time, which is in the payload, and without the headers."""
    headers: str
    """As JSON; whether it can be read is for whoever runs the event."""
    stored_payload: bytes
    is_ordered: bool
    """Whether others of its object wait for it."""
    attempts: int
    uncounted_attempts: int
    """Those that don't use up `max_attempts`."""
    age: float
    """Seconds since its first delivery was received."""

    @cached_property
    def payload(self) -> bytes:
        """The raw body.

        Raises:
            Undecodable
        """
        return at_rest.read(self.stored_payload, at_rest.of_payload(self.row_id))

    @property
    def counted_attempts(self) -> int:
        return self.attempts - self.uncounted_attempts


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


def put_back_into_inbox(event: NewEvent, payload: bytes, *, using: str) -> Claim:
    """Store the payload in the locked row of an event whose last attempt failed, or
    that a person has reopened. Who did that, and why, stays.

    Raises:
        ClaimConflict: the event waits in the inbox, or is done.
    """
    parameters = _fresh(event, using, attempts=0, payload=payload)
    return claimed_by(_statements(using).store_again, parameters, event.row_id, using)


def take_over(row_id: uuid.UUID, *, using: str) -> Claim:
    """Claim the locked row of an event whose last attempt failed, or that waits in the
    inbox: it leaves that with the commit."""
    parameters = {"retention": _retention(), "id": db_id(row_id, using)}
    return claimed_by(_statements(using).take_over, parameters, row_id, using)


def forget(row_id: uuid.UUID, *, using: str) -> None:
    """Delete the locked, expired row of an event, so that it can be claimed anew."""
    ProcessedEvent._base_manager.using(using).filter(pk=row_id).delete()


def read(row_id: uuid.UUID, *, using: str) -> EventView | None:
    """Return the committed row (or this transaction's own), if there is one."""
    row = read_row(_statements(using), row_id, using=using)
    if row is None:
        return None
    state, attempts, uncounted, expired, is_due, is_lost, until_received = row
    return EventView(
        state=state,
        attempts=attempts,
        uncounted_attempts=uncounted,
        expired=bool(expired),
        is_due=bool(is_due),
        is_lost=bool(is_lost),
        age=-float(until_received),
    )


def settle(claim: Claim, state: EventState, *, payload: bytes | None) -> None:
    """Mark the claimed event; takes effect when the transaction commits.

    Raises:
        TransactionLost: the claim's transaction was ended.
    """
    row = {**at_claim(claim), "note": noted_attempt(state, Way.INLINE)}
    _end(_statements(claim.using).settle, claim, state, payload, row)


def _end(
    statement: str,
    claim: Claim,
    state: EventState,
    payload: bytes | None,
    row: Parameters,
) -> None:
    require_transaction(claim)
    stored = payload_parameter(payload, claim.row_id, claim.using)
    parameters = {"state": state.value, "payload": stored, **row}
    if not write_claimed(statement, parameters, claim):
        raise RuntimeError(
            "The claimed event is gone: something in the handler deleted or changed "
            "it. Nothing was committed."
        )


def note_failure(
    event: NewEvent,
    state: EventState,
    error_name: str,
    *,
    payload: bytes | None,
    uses_up: bool,
    using: str,
) -> bool:
    """Write a failed or dead row if the row is absent, has failed before or is reopened.

    `uses_up` says whether this attempt is one of the event's `max_attempts`.

    Of an event that waits in the inbox only its death is noted: it is safe there.

    In a small transaction of its own that doesn't wait. Returns whether it was written:
    if not, another delivery has done the event meanwhile.
    """
    own = _statements(using)
    fresh = _fresh(event, using, attempts=1, payload=payload, last_error=error_name)
    fresh["uncounted"] = int(not uses_up)
    note = noted_attempt(state, Way.INLINE, storable(error_name))
    fresh |= {"note": note, "history": f"[{note}]"}
    insert, update = own.insert_failed, own.note_failure
    if state == EventState.DEAD:
        insert, update = own.insert_dead, own.note_death
    return insert_or_update(insert, update, fresh, row_id=event.row_id, using=using)


def take(row_id: uuid.UUID, *, using: str) -> StoredEvent | None:
    """Lock and return an event whose attempt has begun; ``None``: it is done by now.

    It waits for a moment, since the row may be locked by a worker that looks for work:
    when that worker gets the lock and sees that the attempt has begun here, it goes on
    to the next row, but keeps the lock until its commit.

    Raises:
        ClaimTimedOut: another worker has it.
    """
    statements = _statements(using)
    parameters = {"id": db_id(row_id, using)}
    with connections[using].cursor() as cursor:
        cursor.execute(statements.take_at_once, parameters)
        row = cursor.fetchone()
    if row is None:
        row = _waited_for(statements.take, parameters, using)
    return None if row is None else _stored_event(row_id, row)


def take_finished(
    row_id: uuid.UUID, attempts: int, *, using: str
) -> StoredEvent | None:
    """Lock and return an event that is given up or ignored and still has its payload.

    Only if the attempt with this number is still its latest.

    Raises:
        ClaimTimedOut: another session is running it.
    """
    parameters = {"id": db_id(row_id, using), "attempts": attempts}
    row = _waited_for(_statements(using).take_finished, parameters, using)
    return None if row is None else _stored_event(row_id, row)


def _waited_for(statement: str, parameters: Parameters, using: str) -> Any:
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
    is_ordered, headers, payload, attempts, uncounted, until_received = rest
    return StoredEvent(
        row_id=row_id,
        endpoint=endpoint,
        facts=EventFacts(
            id=event_id,
            type=event_type,
            source=source,
            account=account,
            object_key=object_key,
            occurred_at=None,
            headers={},
        ),
        headers=headers,
        stored_payload=bytes(payload),
        is_ordered=bool(is_ordered),
        attempts=attempts,
        uncounted_attempts=uncounted,
        age=-float(until_received),
    )


def begin_run(row_id: uuid.UUID, *, using: str) -> Claim:
    """Take the locked event out of the inbox, in the transaction of its handler.

    If the handler ends that transaction, this is what stays, and nothing runs it again.
    """
    parameters = {"id": db_id(row_id, using)}
    claim = claimed_by(_statements(using).begin_run, parameters, row_id, using)
    mark(claim)
    return claim


def finish(claim: Claim, state: EventState, way: Way, *, payload: bytes | None) -> None:
    """Mark the event that is run as done, with the handler's writes.

    Raises:
        TransactionLost: the transaction in which it was begun was ended.
    """
    row = {
        "id": db_id(claim.row_id, claim.using),
        "note": noted_attempt(state, way),
    }
    _end(_statements(claim.using).finish, claim, state, payload, row)


def retry_later(
    row_id: uuid.UUID,
    attempts: int,
    error_name: str,
    *,
    after: timedelta,
    uses_up: bool,
    using: str,
) -> bool:
    """Note a failed attempt, unless another one has begun meanwhile.

    In a small transaction of its own that doesn't wait, as `bury`. Returns whether it
    was written.
    """
    parameters = {
        "state": EventState.FAILED.value,
        "last_error": storable(error_name)[:255],
        "note": noted_attempt(EventState.FAILED, Way.INBOX, storable(error_name)),
        "uncounted": int(not uses_up),
        # No date is beyond the year 9999: it would be none, and the event never due.
        "after": min(after, LONGEST_DURATION).total_seconds(),
        "id": db_id(row_id, using),
        "attempts": attempts,
    }
    with brief_transaction(using), connections[using].cursor() as cursor:
        cursor.execute(_statements(using).retry, parameters)
        written: bool = cursor.rowcount == 1
        return written


def bury(
    row_id: uuid.UUID, attempts: int, error_name: str, way: Way, *, using: str
) -> bool:
    """Give the event up; its payload stays. Returns whether this call did it."""
    parameters = {
        "state": EventState.DEAD.value,
        "last_error": storable(error_name)[:255],
        "note": noted_attempt(EventState.DEAD, way, storable(error_name)),
        "id": db_id(row_id, using),
        "attempts": attempts,
    }
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
) -> Parameters:
    connection = connections[using]
    facts = event.facts
    return {
        "id": db_id(event.row_id, using),
        "endpoint": event.endpoint,
        "source": facts.source,
        "account": storable(facts.account),
        "event_id": storable(facts.id),
        "event_type": storable(facts.type)[:255],
        "object_key": storable(facts.object_key)[:255],
        "is_ordered": event.is_ordered and facts.object_key != "",
        "body_digest": event.body_digest,
        "headers": json.dumps(dict(facts.headers)),
        "occurred_at": OCCURRED_AT.get_db_prep_value(facts.occurred_at, connection),
        "payload": payload_parameter(payload, event.row_id, using),
        "attempts": attempts,
        "uncounted": 0,
        "last_error": storable(last_error)[:255],
        "retention": _retention(),
    }
