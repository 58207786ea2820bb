"""The story of a webhook event, from its row and its links."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.utils.translation import gettext, gettext_lazy

from django_idempotency.core.attempts import Attempt, Way, attempts_of
from django_idempotency.core.events import EventState
from django_idempotency.models import OperationLink, ProcessedEvent

from .telling import (
    End,
    Lane,
    Row,
    Story,
    Tone,
    briefly,
    duration,
    in_order,
    moment,
    sentences,
    times,
)


def story_of_event(
    event: ProcessedEvent, links: Sequence[OperationLink] = (), *, now: datetime
) -> Story:
    """Tell what became of a webhook event."""
    end = _end(event, now)
    return Story(
        heading=_heading(event, links),
        end=end,
        sentence=sentences(_tried(event), end.known),
        rows=in_order([*_life(event, now), *_acts(event)]),
        look_for=_last_failure(event) if end.is_undecided else "",
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


def _last_failure(event: ProcessedEvent) -> str:
    if not event.last_error:
        return ""
    error = {"error": briefly(event.last_error).rstrip(".")}
    return gettext("The last attempt failed: %(error)s.") % error


def _end(event: ProcessedEvent, now: datetime) -> End:
    since = moment(event.dead_since)
    if _is_lost(event):
        return End(
            badge=gettext("needs a person"),
            tone=Tone.WAITING,
            known=gettext(
                "Its handler has ended the transaction of its claim: what of it is done "
                "is not known."
            ),
            next=gettext(
                "Find out what of it is done. When the provider sends it again it is "
                "dead, and can be run again."
            ),
            is_undecided=True,
        )
    match event.state:
        case EventState.PROCESSED:
            return End(
                badge=gettext("done once"),
                tone=Tone.GOOD,
                known=gettext("Its handler has run."),
                next=gettext(
                    "Another delivery of it is acknowledged, and runs nothing."
                ),
            )
        case EventState.DEAD:
            waits = (
                gettext("It waits for a person, for %(time)s.")
                % {"time": duration(now - since)}
                if since
                else ""
            )
            return End(
                badge=gettext("dead: needs a person"),
                tone=Tone.WAITING,
                known=sentences(gettext("Given up: nothing of it was done."), waits),
                next=gettext("Mend what has failed, and run it again."),
                is_undecided=True,
            )
        case EventState.IGNORED:
            return End(
                badge=gettext("ignored"),
                tone=Tone.PLAIN,
                known=gettext("There was no handler for it; its payload is kept."),
                next=gettext("If a handler should take it, add it, and run it again."),
            )
        case EventState.DROPPED:
            return End(
                badge=gettext("dropped"),
                tone=Tone.PLAIN,
                known=gettext("Nothing of it was done, and its payload was dropped."),
                next=gettext("It can't be run again."),
            )
        case EventState.REOPENED:
            return End(
                badge=gettext("reopened"),
                tone=Tone.PLAIN,
                known=gettext("A person lets its handler run once more."),
                next=gettext("The provider's next delivery runs it."),
            )
        case _:
            return _waiting(event, now)


def _waiting(event: ProcessedEvent, now: datetime) -> End:
    due = moment(event.next_attempt_at)
    if due is None:
        return End(
            badge=gettext("failed: free for a retry"),
            tone=Tone.BAD,
            known=gettext(
                "Nothing of it was done; the provider's next delivery tries again."
            ),
            next=gettext("Mend what has failed, before the provider sends it again."),
        )
    is_due = due <= now
    left = {"time": duration(due - now)}
    return End(
        badge=gettext("waiting"),
        tone=Tone.PLAIN,
        known=gettext("It is due now.")
        if is_due
        else gettext("It is tried next in %(time)s.") % left,
        next=gettext("A worker takes it: one has to run.")
        if is_due
        else gettext("Nobody has to do anything."),
    )


def _life(event: ProcessedEvent, now: datetime) -> list[Row]:
    due, received = moment(event.next_attempt_at), moment(event.received_at)
    rows = [
        Row(
            lane=Lane.REQUESTS,
            at=received,
            text=gettext("Received."),
            is_start=True,
            short=gettext("received"),
        )
    ]
    occurred = moment(event.occurred_at)
    # Some providers send the first moment of all, which not every time zone has.
    if occurred and occurred.year > 1:
        text = gettext("It happened, as the provider says.")
        rows.append(
            Row(
                lane=Lane.PROVIDER,
                at=occurred,
                text=text,
                short=event.event_type or gettext("happened"),
            )
        )
    rows += [_attempt(each) for each in attempts_of(event.history)]
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


def _attempt(attempt: Attempt) -> Row:
    began, ended = moment(attempt.began), moment(attempt.ended)
    text, short, tone = {
        "": (gettext("An attempt began."), gettext("begun"), Tone.WAITING),
        EventState.PROCESSED: (
            gettext("Its handler had run; what it wrote was committed."),
            gettext("handled"),
            Tone.GOOD,
        ),
        EventState.IGNORED: (
            gettext("There was no handler for it."),
            gettext("ignored"),
            Tone.PLAIN,
        ),
        EventState.DEAD: (
            gettext("The attempt failed, and was the last one: %(error)s"),
            gettext("given up"),
            Tone.BAD,
        ),
    }.get(
        attempt.outcome,
        (gettext("The attempt failed: %(error)s"), gettext("failed"), Tone.BAD),
    )
    return Row(
        lane=Lane.STEPS,
        at=began or ended,
        until=ended if began else None,
        text=text % {"error": attempt.error},
        note=f"{_WAYS.get(attempt.way, attempt.way)}, {attempt.by}",
        short=short,
        is_open=not attempt.outcome,
        tone=tone,
    )


_WAYS: dict[str, Any] = {
    Way.INLINE: gettext_lazy("with the delivery"),
    Way.INBOX: gettext_lazy("by a worker"),
    Way.RERUN: gettext_lazy("run again"),
}


def _acts(event: ProcessedEvent) -> list[Row]:
    notes = [note for note in event.reruns or () if isinstance(note, dict)]
    return [
        Row(
            lane=Lane.PEOPLE,
            at=moment(note.get("at")),
            text=(
                gettext("%(by)s dropped its payload.")
                if note.get("what") == EventState.DROPPED
                else gettext("%(by)s ran it again, or reopened it.")
            )
            % {"by": note.get("by") or gettext("Somebody")},
            note=str(note.get("reason", "")),
            short=gettext("by %(by)s") % {"by": note.get("by") or "?"},
        )
        for note in notes
    ]
