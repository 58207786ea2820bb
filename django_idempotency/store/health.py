"""What waits for somebody, and since when: read by index only, on tables of any size."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Case, Count, Min, Q, QuerySet, When

from django_idempotency.fields import UtcNow
from django_idempotency.models import (
    EventQuerySet,
    IdempotencyRecord,
    ProcessedEvent,
    RecordQuerySet,
)

from .events import event_alias
from .records import record_alias

MOST = 10_000
"""No number is counted beyond this: whoever reads it wants to know whether it is large."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """How many rows wait, at most `MOST`, and since when the oldest one does."""

    held: int
    oldest_held_since: datetime | None
    """Operations that wait for a person."""
    dead: int
    oldest_dead_since: datetime | None
    """Events that wait for a person."""
    due: int
    oldest_due_at: datetime | None
    """Events that a worker would take now."""
    expired: int
    oldest_expired_at: datetime | None
    """Records and events that a purge would delete now."""
    in_flight: int
    """Operations with a live lease, among the `MOST` whose retention ends last."""


def gauges(using: str | None = None) -> Gauges:
    """Return what waits in this database; by default, where each table is written.

    Note [What is found by index]
    `held_since` and `dead_since` are in indexes that have nothing but waiting rows. So
    an operation that its own work has committed in the middle counts from the moment at
    which a request has noticed it. A lease is in no index, since each of its writes would
    then leave its page; but a running operation was claimed a moment ago, and with the
    claim its retention began.
    """
    records, events = _records(using), _events(using)
    (held, held_since), (dead, dead_since), (due, due_at) = waiting(using).values()
    records_expired, records_expired_at = _waiting(records.expired(), "expires_at")
    events_expired, events_expired_at = _waiting(events.expired(), "expires_at")
    expired_at = [each for each in (records_expired_at, events_expired_at) if each]
    return Gauges(
        held=held,
        oldest_held_since=held_since,
        dead=dead,
        oldest_dead_since=dead_since,
        due=due,
        oldest_due_at=due_at,
        expired=min(MOST, records_expired + events_expired),
        oldest_expired_at=min(expired_at, default=None),
        in_flight=_running(records),
    )


def waiting(using: str | None = None) -> dict[str, tuple[int, datetime | None]]:
    """Return what should be nothing, or little: how many, and since when the oldest.

    Those are the numbers that cost next to nothing while all is well: each is found in
    an index that has nothing but such rows.
    """
    records, events = _records(using), _events(using)
    is_called = Q(lease_expires_at__gt=UtcNow())
    held = records.filter(held_since__isnull=False).exclude(is_called)
    return {
        "held": _waiting(held, "held_since"),
        "dead": _waiting(events.filter(dead_since__isnull=False), "dead_since"),
        "due": _waiting(events.due(), "next_attempt_at"),
    }


# Not by a manager: a project's own could join tables in.
def _records(using: str | None) -> RecordQuerySet:
    return RecordQuerySet(IdempotencyRecord, using=using or record_alias())


def _events(using: str | None) -> EventQuerySet:
    return EventQuerySet(ProcessedEvent, using=using or event_alias())


def _waiting(rows: QuerySet[Any], since: str) -> tuple[int, datetime | None]:
    """Count the rows from the oldest on, along the index of `since`."""
    oldest_first = rows.order_by(since).only(since)[:MOST]
    found = oldest_first.aggregate(n=Count("pk"), oldest=Min(since))
    return found["n"], found["oldest"]


def _running(records: RecordQuerySet) -> int:
    is_running = Case(When(lease_expires_at__gt=UtcNow(), then=1))
    latest = records.annotate(is_running=is_running).order_by("-expires_at")[:MOST]
    running: int = latest.aggregate(n=Count("is_running"))["n"]
    return running
