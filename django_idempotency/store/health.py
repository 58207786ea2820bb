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
    oldest_in_flight_since: datetime | None
    """Operations with a live lease, and when the first of them was asked for first: see
    Note [What is found by index]."""


def gauges(using: str | None = None) -> Gauges:
    """Return what waits in this database; by default, where each table is written.

    Note [What is found by index]
    `held_since` and `dead_since` are in indexes that have nothing but waiting rows. So
    an operation that its own work has committed in the middle counts from the moment at
    which a request has noticed it. A lease is in no index, since each of its writes would
    then leave its page. But an operation that is at a call whose outcome could have to be
    found out is in that of `held_since`. And any other was claimed a moment ago, and with
    the claim its retention began: it is looked for among the `MOST` whose retention ends
    last, so one that has run while so many others came is missed.
    """
    records, events = _records(using), _events(using)
    (held, held_since), (dead, dead_since), (due, due_at) = waiting(using).values()
    records_expired, records_expired_at = _waiting(records.expired(), "expires_at")
    events_expired, events_expired_at = _waiting(events.expired(), "expires_at")
    running, running_since = _running(records)
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
        in_flight=running,
        oldest_in_flight_since=running_since,
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


def _running(records: RecordQuerySet) -> tuple[int, datetime | None]:
    is_running = Q(lease_expires_at__gt=UtcNow())
    calling = records.filter(is_running, held_since__isnull=False)
    # Not filtered, but looked through: else all are, to find so many.
    latest = records.annotate(
        since=Case(When(is_running & Q(held_since=None), then="created_at"))
    ).order_by("-expires_at")[:MOST]
    found = [
        latest.aggregate(n=Count("since"), oldest=Min("since")),
        calling.order_by("held_since")[:MOST].aggregate(
            n=Count("pk"), oldest=Min("created_at")
        ),
    ]
    since = [each["oldest"] for each in found if each["n"]]
    return min(MOST, sum(each["n"] for each in found)), min(since, default=None)
