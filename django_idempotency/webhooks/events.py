"""What a handler gets, and the exceptions that it may raise."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django_idempotency.conf import conf, fault_of_duration
from django_idempotency.core.events import EventFacts
from django_idempotency.engine.idempotency import key_of_event
from django_idempotency.engine.words import record_of_call
from django_idempotency.exceptions import name_of
from django_idempotency.models import IdempotencyRecord

__all__ = ["Event", "NotReady", "PermanentError"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(EventFacts):
    """One verified webhook event."""

    endpoint: str
    """The name of the receiver."""
    data: Any
    """The parsed body, or the batch's item: what `id` and `type` were read from."""
    raw: bytes
    """The body of the delivery, byte for byte; of a batch, without the other items."""
    attempt: int
    """The number of this attempt; 1 for the first."""
    row_id: uuid.UUID
    unsigned: frozenset[str] = frozenset()
    """The names of those fields that the signature doesn't cover, such as ``type``:
    whoever has seen one delivery can send it again with another value."""

    @property
    def operation(self) -> IdempotencyRecord | None:
        """The operation whose call has caused the event, if it is known; asks the
        database each time.

        By the key of the call, or by the reference that it has handed over; ``None`` if
        the provider echoes neither, and as long as the operation's transaction is open.
        """
        return record_of_call(self)

    def key_for(self, label: str) -> str:
        """Return the key for an outgoing call in the step `label`, 36 characters.

        Equal on each attempt at this event, also after a crash, so that the other side
        can recognise the call.
        """
        return key_of_event(self.row_id, label)


class NotReady(Exception):
    """Raised by a handler that can't handle the event yet, as without its order.

    What it wrote is rolled back. Inline the provider is answered 503 with
    ``Retry-After``; in the inbox the event is tried again after `after`, and no attempt
    of `max_attempts` is used up.

    Raises:
        ValueError: `after` isn't a positive timedelta, or is longer than events are
            recognised.
    """

    after = timedelta(seconds=30)

    def __init__(self, reason: str = "", *, after: timedelta = after) -> None:
        super().__init__(reason)
        retention = conf.IDEMPOTENCY_EVENT_RETENTION
        fault = fault_of_duration(after)
        if not fault and after >= retention:
            fault = f"must be shorter than IDEMPOTENCY_EVENT_RETENTION ({retention!r})"
        if fault:
            raise ValueError(
                f"NotReady(after={after!r}) {fault}. Write "
                "NotReady(after=timedelta(seconds=60))."
            )
        self.after = after


class PermanentError(Exception):
    """Raised by a handler that will never be able to handle this event.

    What it wrote is rolled back, the event is kept as dead with its payload, and the
    provider gets 2xx, since sending it again would not help. What it says is stored with
    the event, at most 255 characters with the name of its class, and logged: nothing of
    a customer belongs into it.
    """


def told_of(error: BaseException) -> str:
    """Return what is stored of an error: its class, and what `PermanentError` says.

    Others may say anything, such as what was in the payload.
    """
    said = str(error) if isinstance(error, PermanentError) else ""
    return f"{name_of(error)}: {said}" if said else name_of(error)


def pause_after(error: BaseException) -> timedelta:
    """How long the handler wants to be left alone; zero if it doesn't say."""
    after: object = error.after if isinstance(error, NotReady) else None
    # A subclass can say anything.
    return after if isinstance(after, timedelta) else timedelta(0)
