"""One event of a delivery: claim it, and handle or store it in that transaction."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from django.db import Error

from django_idempotency.core.decisions import InFlight
from django_idempotency.core.events import EventState
from django_idempotency.engine.claiming import Claiming
from django_idempotency.engine.idempotency import Confined
from django_idempotency.engine.reporting import report_busy
from django_idempotency.exceptions import (
    StoreBusy,
    StoreUnavailable,
    TransactionLost,
    name_of,
)
from django_idempotency.store import due
from django_idempotency.store import events as event_store
from django_idempotency.store.events import NewEvent
from django_idempotency.store.rows import Claim

from .endpoints import Endpoint
from .event_row import Duplicate, InboxRow, InlineRow, Lost
from .events import Event, NotReady, pause_after, told_of
from .executing import Ending, Execution, report_event
from .profiles import body_digest

logger = logging.getLogger("django_idempotency")


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The provider may forget the event: it is done, or stored with its payload."""


@dataclass(frozen=True, slots=True)
class Later:
    """The provider should send it again, since it could not be handled now."""

    after: timedelta = timedelta(seconds=1)
    is_busy: bool = False
    """Another delivery of it is being handled."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider should send it again, since something went wrong."""


Reception = Acknowledged | Later | Failed
"""What becomes of one event of this delivery."""


def receive_event(endpoint: Endpoint, event: Event, *, wait: timedelta) -> Reception:
    """Handle or store one verified event; it doesn't raise, whatever happens."""
    if endpoint.inbox:
        return _stored(endpoint, event, wait)
    return _Handling(endpoint, event).reception(wait)


def _stored(endpoint: Endpoint, event: Event, wait: timedelta) -> Reception:
    """The inbox: the raw bytes are stored, and a worker does the rest."""
    new_event = _new_event(event, is_ordered=endpoint.ordered)
    row = InboxRow(new_event, event, event_store.event_alias())
    claiming = Claiming(row, wait)
    try:
        claimed = claiming.store()
    except Exception as error:
        return _unclaimed(error, endpoint, has_started=claiming.has_started)
    return _reception_of(claimed, row)


class _Handling:
    """The inline mode: the handler runs in the transaction of the claim."""

    def __init__(self, endpoint: Endpoint, event: Event) -> None:
        self.endpoint = endpoint
        self.event = event
        new_event = _new_event(event, is_ordered=endpoint.ordered)
        self.row = InlineRow(new_event, event, event_store.event_alias())
        self.execution: Execution | None = None

    def reception(self, wait: timedelta) -> Reception:
        try:
            with Confined():
                claimed = Claiming(self.row, wait).run(self._execute)
        except Exception as error:
            if self.execution is None:
                return _unclaimed(error, self.endpoint, has_started=False)
            if self.execution.after(error) is not Ending.FAILED:
                return Acknowledged()
            is_early = isinstance(error, NotReady)
            return Later(pause_after(error)) if is_early else Failed()
        return _reception_of(claimed, self.row)

    def _execute(self, claim: Claim) -> Ending:
        row = _ClaimedRow(claim, self.row, self.endpoint.max_attempts)
        self.execution = Execution(
            self.row.event, row, using=claim.using, age=self.row.age
        )
        return self.execution.run(self.endpoint)


def _unclaimed(error: Exception, endpoint: Endpoint, *, has_started: bool) -> Reception:
    """Return what follows from an error; nothing has been committed."""
    is_unavailable = isinstance(error, StoreUnavailable) and not has_started
    if is_unavailable and isinstance(error, StoreBusy):
        report_busy(endpoint.name)
        return Later()
    action = "unavailable" if is_unavailable else "unclaimed"
    logger.error(
        "webhook %s: an event could not be claimed",
        action,
        exc_info=error,
        extra={"action": action, "endpoint": endpoint.name},
    )
    return Later() if is_unavailable else Failed()


def _reception_of(
    claimed: Ending | Claim | Duplicate | Lost | InFlight, row: InboxRow
) -> Reception:
    match claimed:
        case InFlight():
            return Later(is_busy=True)
        case Duplicate():
            report_event("event_duplicate", row.event)
            return Acknowledged()
        case Lost():
            return _given_up(row)
        case Ending() | Claim():  # pragma: no branch - mypy proves there is no other
            return Acknowledged()


def _given_up(row: InboxRow) -> Reception:
    """Store it as dead, for a person: nobody knows what its handler has done."""
    try:
        is_written = event_store.note_failure(
            row.new_event,
            EventState.DEAD,
            name_of(TransactionLost()),
            payload=row.event.raw,
            uses_up=True,
            using=row.using,
        )
    except Error:
        return Failed()
    if not is_written:
        return Later()
    report_event("event_dead", row.event)
    return Acknowledged()


@dataclass(frozen=True, slots=True)
class _ClaimedRow:
    """The row that the handler's transaction has claimed. After a rollback it is gone,
    or in the state of the last attempt."""

    claim: Claim
    row: InlineRow
    max_attempts: int | None

    def settle(self, state: EventState, *, payload: bytes | None) -> None:
        event_store.settle(self.claim, state, payload=payload)
        # It may have waited in an inbox that was ordered, with others behind it.
        seen, object_key = self.row.seen, self.row.event.object_key
        if seen is not None and seen.is_due and object_key:
            due.wake_next(self.row.event.endpoint, object_key, using=self.claim.using)

    def is_last_attempt(self, error: BaseException) -> bool:
        """An event that isn't ready is left to the provider, however often it comes."""
        if self.max_attempts is None or isinstance(error, NotReady):
            return False
        return self.row.counted_attempts >= self.max_attempts

    def fail(self, error: BaseException) -> bool:
        self._note(EventState.FAILED, error, payload=None)
        return True  # the provider sends it again, whatever is noted

    def bury(self, error: BaseException) -> bool:
        # The event may be acknowledged because that commit stores its payload.
        return self._note(EventState.DEAD, error, payload=self.row.event.raw)

    def _note(
        self, state: EventState, error: BaseException, *, payload: bytes | None
    ) -> bool:
        return event_store.note_failure(
            self.row.new_event,
            state,
            told_of(error),
            payload=payload,
            uses_up=not isinstance(error, NotReady),
            using=self.row.using,
        )


def _new_event(event: Event, *, is_ordered: bool) -> NewEvent:
    return NewEvent(
        row_id=event.row_id,
        endpoint=event.endpoint,
        facts=event,
        is_ordered=is_ordered,
        body_digest=body_digest(event.raw),
    )
