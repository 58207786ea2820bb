"""The `Row` of an event, for both modes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from django_idempotency.core.decisions import Renew
from django_idempotency.core.events import EventState
from django_idempotency.engine.claiming import Row
from django_idempotency.models import ProcessedEvent
from django_idempotency.store import events, rows
from django_idempotency.store.events import EventView, NewEvent
from django_idempotency.store.rows import Claim

from .events import Event

DONE = frozenset(
    {
        EventState.PROCESSED,
        EventState.IGNORED,
        EventState.DEAD,
        EventState.DROPPED,
    }
)


class Duplicate:
    """The verdict of an existing row: the event is done, or safe in the inbox."""


class Lost:
    """The verdict of an event whose handler has ended the transaction of its claim."""


class InboxRow(Row[Duplicate | Lost]):
    """An event that is stored with its payload, for a worker to handle."""

    def __init__(self, new_event: NewEvent, event: Event, using: str) -> None:
        self.new_event = new_event
        self.event = event
        self.using = using
        self.seen: EventView | None = None
        """The row as it was last read."""
        self._is_nested = rows.is_inside(using)
        """Whether the transaction around us may have claimed the row itself."""

    def insert(self, wait: timedelta) -> Claim:
        return events.put_into_inbox(
            self.new_event, self.event.raw, using=self.using, wait=wait
        )

    def lock(self, wait: timedelta) -> None:
        rows.lock(ProcessedEvent, self.event.row_id, using=self.using, wait=wait)

    def look(self) -> Duplicate | Lost | Renew | None:
        """Only what is done, given up with its payload, or safe is a duplicate."""
        self.seen = events.read(self.event.row_id, using=self.using)
        if self.seen is None:
            return None
        if self.seen.is_lost and not self._is_nested:
            return Lost()
        is_done = self.seen.state in DONE and not self.seen.expired
        return Duplicate() if is_done or self.is_safe(self.seen) else Renew()

    def is_safe(self, seen: EventView) -> bool:
        """Whether a worker will handle the event."""
        return seen.is_due

    def take_over(self) -> Claim:
        if self.seen is None or self.seen.expired:
            return self._begin_new_life()
        return events.put_back_into_inbox(
            self.new_event, self.event.raw, using=self.using
        )

    def _begin_new_life(self) -> Claim:
        events.forget(self.event.row_id, using=self.using)
        return self.insert(timedelta(0))


class InlineRow(InboxRow):
    """An event that is handled in the transaction of its claim.

    If it waits in an inbox, the receiver had one before, and perhaps nobody works it off.
    """

    def is_safe(self, seen: EventView) -> bool:
        return False

    uncounted_attempts = 0
    age = 0.0
    """Seconds since its first delivery was received, when this attempt began."""

    @property
    def counted_attempts(self) -> int:
        """With this one, those that use up `max_attempts`."""
        return self.event.attempt - self.uncounted_attempts

    def insert(self, wait: timedelta) -> Claim:
        return events.claim(self.new_event, using=self.using, wait=wait)

    def take_over(self) -> Claim:
        if self.seen is None or self.seen.expired:
            return self._begin_new_life()
        self.event = replace(self.event, attempt=self.seen.attempts + 1)
        self.uncounted_attempts = self.seen.uncounted_attempts
        self.age = self.seen.age
        return events.take_over(self.event.row_id, using=self.using)
