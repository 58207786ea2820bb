"""The story of an operation or an event as about ten lines of plain text.

Never among them are a client's key, a header, a body, or what a step has returned.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from django.utils.timezone import override

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.events import EventState
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import TASK, on_one_line
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.stories.event import story_of_event
from django_idempotency.stories.operation import story_of_record
from django_idempotency.stories.related import (
    Related,
    principal_of,
    related_to_event,
    related_to_record,
)
from django_idempotency.stories.telling import Row, Story, clock, day, moment, sentences

FIRST, LAST = 3, 5
"""How many things that happened are told, if there were more."""


def lines_of(row: IdempotencyRecord | ProcessedEvent, now: datetime) -> list[str]:
    """Tell what happened, what is not known, and what to do next."""
    with override(UTC):
        if isinstance(row, IdempotencyRecord):
            return _of_record(row, now)
        return _of_event(row, now)


def heading(row: IdempotencyRecord | ProcessedEvent, now: datetime) -> str:
    """One line, to choose from several."""
    with override(UTC):
        if isinstance(row, IdempotencyRecord):
            nothing = Related(links=[], events=[], records=[])
            story = story_of_record(row, nothing, now=now)
            began, what = row.created_at, f"{row.method} {row.path}"
        else:
            story = story_of_event(row, now=now)
            began, what = row.received_at, f"{story.heading} {row.event_id}"
        shown = _shown(moment(began) or now)
        return f"{row.pk}  {shown}  {on_one_line(what)}: {story.end.badge}"


def _of_record(record: IdempotencyRecord, now: datetime) -> list[str]:
    related = related_to_record(record)
    principal = principal_of(record)
    story = story_of_record(record, related, who=principal, now=now)
    about = [
        f"{each.label or each.value} ({each.value})"
        + (f", {each.amount}" if each.amount else "")
        for each in related.links
        if each.kind == LinkKind.OBJECT
    ]
    where = on_one_line(f"{record.method} {record.path}")
    # That of a task without an amount would be its key.
    what = where if record.method == TASK else on_one_line(story.heading)
    return [
        f"{record.reference}  {what}: {story.end.badge}",
        f"Whose: {on_one_line(principal)}. "
        f"About: {on_one_line('; '.join(about)) or 'not said'}.",
        f"Record {record.pk}, {where}, {_times(record.attempts, 'attempt')}, "
        f"{_times(record.replays, 'replay')}.",
        *_told(story, _record_command(record, story, now)),
    ]


def _of_event(event: ProcessedEvent, now: datetime) -> list[str]:
    related = related_to_event(event)
    story = story_of_event(event, related.links, now=now)
    return [
        f"{on_one_line(f'{story.heading}, {event.event_id}')}: {story.end.badge}",
        f"From: {on_one_line(f'{event.source} {event.account}'.rstrip())}, "
        f"at {on_one_line(event.endpoint)}. "
        f"About: {on_one_line(event.object_key) or 'not said'}.",
        f"Row {event.pk}, {_times(event.attempts, 'attempt')}.",
        *_told(story, _event_command(event, now)),
    ]


def _told(story: Story, command: str) -> Iterator[str]:
    rows = [f"  {_moment(row)}  {_text(row)}" for row in story.table]
    left_out = len(rows) - FIRST - LAST
    if left_out > 1:
        rows[FIRST:-LAST] = [f"  … {left_out} more in between …"]
    yield from rows
    yield f"Known: {story.sentence}"
    look_for = on_one_line(story.look_for)
    yield f"Next: {sentences(look_for, story.end.next, command)}"


def _text(row: Row) -> str:
    took = f" ({row.took})" if row.took else ""
    return f"{on_one_line(sentences(row.text, row.note))}{took}"


def _record_command(record: IdempotencyRecord, story: Story, now: datetime) -> str:
    """Return what to type, if anything is to be done here."""
    if story.end.is_undecided:
        return (
            f"Find out, and say so: manage.py settle_idempotency_key {record.pk}"
            f" --seen {record.seen} --reason WHY, and --not-applied or --applied RESULT"
        )
    expires = moment(record.expires_at)
    is_over = expires is not None and expires <= now
    if (
        is_over
        and not record.is_tombstone_at(now)
        and record.state in (RecordState.KEPT, RecordState.EXPIRED)
    ):
        return "manage.py purge_idempotency_keys deletes it."
    return ""


def _event_command(event: ProcessedEvent, now: datetime) -> str:
    again = f"{event.pk} --seen {event.seen} --reason WHY"
    due = moment(event.next_attempt_at)
    if due is not None:
        return "manage.py process_events" if due <= now else ""
    if event.state in (EventState.DEAD, EventState.IGNORED):
        return f"manage.py process_events --rerun {again}"
    if event.state == EventState.PROCESSED:
        return (
            "To let the provider's next delivery run it again: "
            f"manage.py process_events --reopen {again}"
        )
    return ""


def _moment(row: Row) -> str:
    return _shown(row.at) if row.at else row.clock


def _shown(at: datetime) -> str:
    return f"{day(at)} {clock(at)} UTC"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
