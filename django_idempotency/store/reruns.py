"""What people do to events that are done: run one again, reopen one, or drop its payload.

They change the row only as the person has seen it, so that the second click, of the same
person or of another one, does nothing and is told what has happened since.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

from django.db import connections
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from django_idempotency.conf import conf
from django_idempotency.core.attempts import BEGUN, Way, error_class, without_texts
from django_idempotency.core.events import EventState
from django_idempotency.core.history import whereabouts, with_note
from django_idempotency.core.seen import changed_since, described
from django_idempotency.exceptions import ClaimOutrun, ClaimTimedOut
from django_idempotency.fields import UtcNow
from django_idempotency.models import ProcessedEvent

from .dialects import dialect_of
from .events import A_MOMENT, event_alias
from .rows import claim_errors

WITH_PAYLOAD = (EventState.DEAD, EventState.IGNORED)
GONE = gettext_lazy(
    "Its payload was dropped, so there is nothing to run any more. If it has to be done "
    "after all, do it by hand, or let the provider send it as another event."
)


def begin(seen: ProcessedEvent, *, reason: str, by: str, using: str) -> int:
    """Count an attempt at an event that was given up or ignored; return its number.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: it is in another state, or has changed since it was seen.
    """
    if seen.state == EventState.DROPPED:
        raise ValueError(str(GONE))
    if seen.state not in WITH_PAYLOAD:
        raise ValueError(
            gettext(
                "The event is processed: its handler has run. To let the provider's next "
                "delivery run it once more, reopen it."
            )
            if seen.state == EventState.PROCESSED
            else _is_tried_anyway(seen)
        )
    attempts = seen.attempts + 1
    history = with_note(
        seen.history, {"what": BEGUN, "way": Way.RERUN, "by": whereabouts()}
    )
    _change(seen, reason=reason, by=by, using=using, attempts=attempts, history=history)
    return attempts


def reopen(seen: ProcessedEvent, *, reason: str, by: str, using: str) -> None:
    """Let the next delivery of a processed event take it over.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: it is in another state, or has changed since it was seen.
    """
    if seen.state == EventState.DROPPED:
        raise ValueError(str(GONE))
    if seen.state != EventState.PROCESSED:
        raise ValueError(
            gettext(
                "The event is %(state)s and still has its payload: run it again instead."
            )
            % {"state": seen.get_state_display()}
            if seen.state in WITH_PAYLOAD
            else _is_tried_anyway(seen)
        )
    _change(
        seen,
        reason=reason,
        by=by,
        using=using,
        state=EventState.REOPENED,
        uncounted_attempts=F("attempts"),
    )


def drop(seen: ProcessedEvent, *, reason: str, by: str, using: str) -> None:
    """Delete the payload of an event that was given up or ignored, for good.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: it is in another state, or has changed since it was seen.
    """
    if seen.state == EventState.DROPPED:
        raise ValueError(gettext("Its payload is dropped already."))
    if seen.state in (EventState.PROCESSED, EventState.REOPENED):
        raise ValueError(gettext("The event is processed: its payload is gone."))
    if seen.state not in WITH_PAYLOAD:
        raise ValueError(_is_tried_anyway(seen))
    _change(
        seen,
        reason=reason,
        by=by,
        using=using,
        did="dropped",
        state=EventState.DROPPED,
        payload=None,
        dead_since=None,
        # What a handler has said of it may be out of the payload.
        last_error=error_class(seen.last_error),
        history=without_texts(seen.history),
    )


def events_named(text: str) -> list[ProcessedEvent]:
    """Find the events of this row, or with this id of the provider's."""
    rows: QuerySet[ProcessedEvent] = QuerySet(ProcessedEvent, using=event_alias())
    rows = rows.defer("occurred_at", "payload", "headers").order_by("endpoint", "pk")
    found = rows.filter(event_id=text)
    with suppress(ValueError):
        found |= rows.filter(pk=uuid.UUID(text))
    return list(found)


def _is_tried_anyway(seen: ProcessedEvent) -> str:
    if seen.next_attempt_at is not None:
        return gettext("The event waits in the inbox and will be tried anyway.")
    told = gettext(
        "The event is %(state)s. The provider's next delivery runs it anyway."
    )
    return told % {"state": seen.get_state_display()}


def _change(
    seen: ProcessedEvent,
    *,
    reason: str,
    by: str,
    using: str,
    did: str = "",
    **columns: Any,
) -> None:
    """Write to the row if it still is as it was seen, and record who did it and why."""
    rows: QuerySet[ProcessedEvent] = ProcessedEvent._base_manager.using(using)
    note = {"at": timezone.now().isoformat(), "by": by, "reason": reason}
    if did:
        note["what"] = did
    as_seen = rows.filter(
        pk=seen.pk,
        state=seen.state,
        attempts=seen.attempts,
        received_at=seen.received_at,
        next_attempt_at=None,
    )
    connection = connections[using]
    try:
        with claim_errors(using), dialect_of(connection).locking(connection, A_MOMENT):
            is_written = as_seen.update(
                reruns=[*seen.reruns, note],
                # Afterwards it is a duplicate again for that long.
                expires_at=UtcNow() + conf.IDEMPOTENCY_EVENT_RETENTION,
                **columns,
            )
    except (ClaimOutrun, ClaimTimedOut):
        raise ValueError(
            gettext("Somebody is running the event at this moment. Nothing was done.")
        ) from None
    if not is_written:
        raise ValueError(_what_happened(seen, _row(seen.pk, rows)))


def _row(row_id: uuid.UUID, rows: QuerySet[ProcessedEvent]) -> ProcessedEvent:
    # Not the time at which the provider says that it happened: Python may have no such.
    return rows.defer("occurred_at", "payload", "headers").get(pk=row_id)


def _what_happened(seen: ProcessedEvent, row: ProcessedEvent) -> str:
    return changed_since(
        described(seen.get_state_display(), seen.attempts),
        described(row.get_state_display(), row.attempts),
        row.last_act,
    )
