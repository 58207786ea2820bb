"""The story of a webhook event, from its row and its links. Pure, as `story`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.utils.translation import gettext

from django_idempotency.core.events import EventState
from django_idempotency.models import OperationLink, ProcessedEvent

from .telling import (
    Lane,
    Row,
    Story,
    Tone,
    duration,
    in_order,
    moment,
    sentences,
    times,
)


def event_story(
    event: ProcessedEvent, *, links: Sequence[OperationLink] = (), now: datetime
) -> Story:
    """Tell what became of a webhook event."""
    badge, tone, outcome = _standing(event, now)
    return Story(
        heading=_heading(event, links),
        badge=badge,
        tone=tone,
        sentence=sentences(_tried(event), outcome),
        rows=in_order([*_life(event, now), *_acts(event)]),
        is_undecided=_is_dead(event),
    )


def _is_lost(event: ProcessedEvent) -> bool:
    """Its handler has ended the transaction of the claim."""
    is_stored = event.payload is not None
    return event.next_attempt_at is None and (
        event.state == EventState.RECEIVED
        or (event.state == EventState.FAILED and is_stored)
    )


def _is_dead(event: ProcessedEvent) -> bool:
    return event.state == EventState.DEAD or _is_lost(event)


def _heading(event: ProcessedEvent, links: Sequence[OperationLink]) -> str:
    what = event.event_type or gettext("Event")
    about = next((link.label or link.value for link in links), "") or event.object_key
    amount = next((link.amount for link in links if link.amount), "")
    if about:
        what = gettext("%(what)s for %(about)s") % {"what": what, "about": about}
    return f"{what}, {amount}" if amount else what


def _tried(event: ProcessedEvent) -> str:
    if not event.attempts:
        return gettext("Not tried yet.")
    return gettext("Tried %(times)s.") % {"times": times(event.attempts)}


def _standing(event: ProcessedEvent, now: datetime) -> tuple[str, Tone, str]:
    since = moment(event.dead_since)
    if _is_lost(event):
        return (
            gettext("needs a person"),
            Tone.WAITING,
            gettext(
                "Its handler has ended the transaction of its claim: what of it is done "
                "is not known."
            ),
        )
    match event.state:
        case EventState.PROCESSED:
            return gettext("done once"), Tone.GOOD, gettext("Its handler has run.")
        case EventState.DEAD:
            waits = (
                gettext("It waits for a person, for %(time)s.")
                % {"time": duration(now - since)}
                if since
                else ""
            )
            told = sentences(gettext("Given up: nothing of it was done."), waits)
            return gettext("dead: needs a person"), Tone.WAITING, told
        case EventState.IGNORED:
            told = gettext("There was no handler for it; its payload is kept.")
            return gettext("ignored"), Tone.PLAIN, told
        case EventState.REOPENED:
            told = gettext("The provider's next delivery runs its handler once more.")
            return gettext("reopened"), Tone.PLAIN, told
        case _:
            return _waiting(event, now)


def _waiting(event: ProcessedEvent, now: datetime) -> tuple[str, Tone, str]:
    due = moment(event.next_attempt_at)
    if due is None:
        told = gettext(
            "Nothing of it was done; the provider's next delivery tries again."
        )
        return gettext("failed: free for a retry"), Tone.BAD, told
    if due <= now:
        return gettext("waiting"), Tone.PLAIN, gettext("It is due now.")
    told = gettext("It is tried next in %(time)s.") % {"time": duration(due - now)}
    return gettext("waiting"), Tone.PLAIN, told


def _life(event: ProcessedEvent, now: datetime) -> list[Row]:
    due, dead = moment(event.next_attempt_at), moment(event.dead_since)
    received, done = moment(event.received_at), moment(event.processed_at)
    rows = [
        Row(
            lane=Lane.REQUESTS,
            at=received,
            text=gettext("Received."),
            short=gettext("received"),
        )
    ]
    if occurred := moment(event.occurred_at):
        text = gettext("It happened, as the provider says.")
        rows.append(
            Row(
                lane=Lane.PROVIDER,
                at=occurred,
                text=text,
                short=event.event_type or gettext("happened"),
            )
        )
    if done:
        text = gettext("Its handler had run; what it wrote was committed.")
        rows.append(
            Row(
                lane=Lane.STEPS,
                at=done,
                text=text,
                short=gettext("handled"),
                tone=Tone.GOOD,
            )
        )
    if event.last_error and not done:
        rows.append(
            Row(
                lane=Lane.STEPS,
                at=dead,
                text=gettext("The last attempt failed: %(error)s")
                % {"error": event.last_error},
                short=gettext("given up") if dead else "",
                tone=Tone.BAD,
            )
        )
    if due:
        rows.append(
            Row(
                lane=Lane.STEPS,
                at=due,
                text=gettext("The next attempt is due."),
                short=gettext("next attempt"),
                tone=Tone.WAITING,
            )
        )
    if _is_dead(event):
        text = gettext("waits for a person")
        rows.append(
            Row(
                lane=Lane.PEOPLE,
                at=now,
                text=gettext("Waits for a person."),
                short=text,
                tone=Tone.WAITING,
            )
        )
    return rows


def _acts(event: ProcessedEvent) -> list[Row]:
    notes = [note for note in event.reruns or () if isinstance(note, dict)]
    return [
        Row(
            lane=Lane.PEOPLE,
            at=moment(note.get("at")),
            text=gettext("%(by)s ran it again, or reopened it.")
            % {"by": note.get("by") or gettext("Somebody")},
            note=str(note.get("reason", "")),
            short=gettext("by %(by)s") % {"by": note.get("by") or "?"},
        )
        for note in notes
    ]
