"""The story of an operation or an event, in about ten lines of plain text.

Pure: a row and its links go in, lines come out. Never among them are a key, a header, a
body, or what a step has returned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from django.utils.timezone import is_aware, make_aware

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.events import EventState
from django_idempotency.core.history import Happening
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import ERASED, on_one_line
from django_idempotency.models import (
    IdempotencyRecord,
    OperationLink,
    ProcessedEvent,
)

from .durations import spelled

FIRST, LAST = 3, 5
"""How many things that happened are told, if there were more."""

Moment = tuple[datetime, str]


def story_of_record(
    record: IdempotencyRecord, links: Sequence[OperationLink], now: datetime
) -> list[str]:
    """Tell what happened to an operation, what is not known, and what to do next."""
    whose = record.scope.removesuffix(f"|{record.method}|{record.path}")
    about = [
        f"{each.label or each.value} ({each.value})"
        + (f", {each.amount}" if each.amount else "")
        for each in links
        if each.kind == LinkKind.OBJECT
    ]
    known, next_act = _end_of_record(record, links, now)
    return [
        f"{record.reference}  {on_one_line(f'{record.method} {record.path}')}: "
        f"{_state_of(record, now)}",
        f"Whose: {on_one_line(whose)}. About: {on_one_line('; '.join(about)) or 'not said'}.",
        f"Record {record.pk}, {_times(record.attempts, 'attempt')}, "
        f"{_times(record.replays, 'replay')}.",
        *_told(_happened_to(record, links, now)),
        f"Known: {known}",
        f"Next: {next_act}",
    ]


def story_of_event(event: ProcessedEvent, now: datetime) -> list[str]:
    """Tell what happened to an event, what is not known, and what to do next."""
    moments = [(event.received_at, "received")]
    if event.processed_at:
        moments.append((event.processed_at, f"{event.state} by its handler"))
    if event.dead_since:
        moments.append((event.dead_since, f"given up: {on_one_line(event.last_error)}"))
    for note in event.reruns:
        by, reason = (on_one_line(str(note.get(name, ""))) for name in ("by", "reason"))
        moments.append(
            (_moment(note["at"]), f"{by or 'somebody'} let it run: {reason}")
        )
    known, next_act = _end_of_event(event, now)
    what = on_one_line(f"{event.event_type or 'event'} {event.event_id}")
    about = on_one_line(event.object_key) or "not said"
    return [
        f"{what} at {on_one_line(event.endpoint)}: {event.state}",
        f"From: {event.source} {on_one_line(event.account)}".rstrip()
        + f". About: {about}.",
        f"Row {event.pk}, {_times(event.attempts, 'attempt')}.",
        *_told([(_aware(at), text) for at, text in moments]),
        f"Known: {known}",
        f"Next: {next_act}",
    ]


def heading(row: IdempotencyRecord | ProcessedEvent, now: datetime) -> str:
    """One line, to choose from several."""
    if isinstance(row, IdempotencyRecord):
        where = on_one_line(f"{row.method} {row.path}")
        return f"{row.pk}  {_shown(row.created_at)}  {where}: {_state_of(row, now)}"
    what = on_one_line(f"{row.event_type or 'event'} {row.event_id}")
    return f"{row.pk}  {_shown(row.received_at)}  {what}: {row.state}"


def _state_of(record: IdempotencyRecord, now: datetime) -> str:
    lease_end = record.lease_expires_at
    if lease_end is not None and lease_end > now:
        return "running"
    if record.state == RecordState.HELD or (
        record.state == RecordState.IN_FLIGHT and lease_end is None
    ):
        since = record.held_since or record.created_at
        return f"held, since {_shown(since)} ({spelled(now - since)})"
    if record.state == RecordState.IN_FLIGHT:
        return "begun and without an end"
    return record.state


def _end_of_record(
    record: IdempotencyRecord, links: Sequence[OperationLink], now: datetime
) -> tuple[str, str]:
    """What is known and what isn't, and the next act."""
    lease_end = record.lease_expires_at
    begun = [each["name"] for each in record.steps if not each["done"]]
    if record.scope == ERASED:
        return (
            "it is done; whose it was, and what was answered, was erased.",
            "nothing. A repeat gets 409 answer-unavailable, and runs nothing.",
        )
    if lease_end is not None and lease_end > now:
        return (
            f"it is running, with a lease until {_shown(lease_end)}.",
            "nothing before then: it may end by itself. Look again after that.",
        )
    if record.state == RecordState.HELD or (
        record.state == RecordState.IN_FLIGHT and lease_end is None
    ):
        return _unknown(begun, links), (
            f"find out, and say so: manage.py settle_idempotency_key {record.pk}"
            f" --seen {record.seen} --reason WHY, and --not-applied or --applied RESULT"
        )
    if record.state == RecordState.IN_FLIGHT:
        last = (
            f"the lease ended {_shown(lease_end)}" if lease_end else "it has no lease"
        )
        return (
            f"{_word(begun)}{last}; whoever ran it was stopped, or is still at it.",
            "let the client send it again: that takes it over, after the last step that "
            "is done.",
        )
    if record.state == RecordState.RELEASED:
        kept_steps = (
            "goes on after the last step that is done"
            if record.steps
            else ("runs all of it")
        )
        error = f" ({record.last_error})" if record.last_error else ""
        return (
            f"the last attempt failed{error}; the key is free.",
            f"mend what failed. The client's repeat {kept_steps}.",
        )
    if record.expires_at <= now:
        return (
            "it is done, and its retention is over: a repeat would do it again.",
            "manage.py purge_idempotency_keys deletes it.",
        )
    if not record.response_status:
        return (
            "it is done, and nobody has its answer.",
            "nothing. A repeat gets 409 answer-unavailable, and runs nothing.",
        )
    return (
        f"it is done, and was answered {record.response_status}.",
        f"nothing. A repeat gets the same answer until {_shown(record.expires_at)}.",
    )


def _word(begun: Sequence[str]) -> str:
    return f"there is no word of {', '.join(map(repr, begun))}; " if begun else ""


def _unknown(begun: Sequence[str], links: Sequence[OperationLink]) -> str:
    if not begun:
        return (
            "its work has committed something in the middle, and nobody knows what. "
            "Look at what it is about."
        )
    names = ", ".join(map(repr, begun))
    # Derived, so that it tells nothing of the client's key.
    handed = [
        on_one_line(each.value)
        for each in links
        if (each.kind == LinkKind.CALL and each.label in begun)
        or each.kind == LinkKind.REFERENCE
    ]
    by = f"; look for {' or '.join(handed)} there" if handed else ""
    return f"{names} was begun; whether it happened at the other side isn't known{by}."


def _end_of_event(event: ProcessedEvent, now: datetime) -> tuple[str, str]:
    again = f"--seen {event.seen} --reason WHY"
    rerun = f"manage.py process_events --rerun {event.pk} {again}"
    error = f" ({on_one_line(event.last_error)})" if event.last_error else ""
    if event.next_attempt_at is not None:
        tried = f"the last attempt failed{error}" if event.attempts else "it waits"
        if event.next_attempt_at > now:
            return f"{tried}.", f"nothing: it is due {_shown(event.next_attempt_at)}."
        return (
            f"{tried}; it is due since {_shown(event.next_attempt_at)}.",
            "let a worker run: manage.py process_events",
        )
    match EventState(event.state):
        case EventState.PROCESSED:
            reopen = f"manage.py process_events --reopen {event.pk} {again}"
            return (
                "it is done; what it wrote is committed with it.",
                f"nothing. To let the provider's next delivery run it again: {reopen}",
            )
        case EventState.DEAD:
            return f"it was given up{error}.", f"mend its handler, and then: {rerun}"
        case EventState.IGNORED:
            return "no handler takes it.", f"if one should, add it, and then: {rerun}"
        case EventState.REOPENED:
            return "a person lets it run again.", "let the provider send it again."
        case EventState.FAILED if event.payload is None:
            return (
                f"the last attempt failed{error}, and was rolled back.",
                "mend its handler: the provider sends it again.",
            )
        case EventState.RECEIVED | EventState.FAILED:
            return (
                "its handler has committed something in the middle, and nobody knows "
                "what.",
                "find out what of it is done. When the provider sends it again it is "
                "dead, and can be run again.",
            )


def _happened_to(
    record: IdempotencyRecord, links: Sequence[OperationLink], now: datetime
) -> list[Moment]:
    moments = [
        (_moment(note["at"]), _told_note(note))
        for note in record.history
        if isinstance(note, dict) and note.get("at")
    ]
    if not moments:
        moments.append((record.created_at, "claimed"))
    for step in record.steps:
        if began := step.get("began"):
            moments.append((_moment(began), _told_step(step)))
    if record.completed_at:
        status = record.response_status or "nothing that is left"
        moments.append((record.completed_at, f"done, answered {status}"))
    lease_end = record.lease_expires_at
    if lease_end is not None and lease_end <= now:
        moments.append((lease_end, "its lease ended, without a word"))
    return [(_aware(at), text) for at, text in moments]


def _told_step(step: dict[str, Any]) -> str:
    what = f"{step['kind']} {step['name']!r} began"
    if not step["done"]:
        return f"{what}; no word of it since"
    refused = " and was refused" if step.get("refused") else ""
    if not step.get("ended"):
        return f"{what}, done{refused}"
    took = (_moment(step["ended"]) - _moment(step["began"])).total_seconds()
    return f"{what}, done after {took:.3f} s{refused}"


def _told_note(note: dict[str, Any]) -> str:
    waited = f", after {note['waited']} s" if note.get("waited") else ""
    by = on_one_line(str(note.get("by", ""))) or "somebody"
    why = on_one_line(str(note.get("reason", "")))
    error = f" ({on_one_line(str(note['error']))})" if note.get("error") else ""
    match note.get("what"):
        case Happening.CLAIMED:
            request = note.get("request")
            told = f", request {on_one_line(str(request))}" if request else ""
            return f"an attempt began{f' on {by}' if 'by' in note else ''}{told}"
        case Happening.RELEASED:
            return f"the attempt ended without an answer to keep{error}"
        case Happening.HELD:
            return f"the attempt ended, with an unknown outcome{error}"
        case Happening.REPLAYED:
            return f"a repeat got the first answer{waited}"
        case Happening.IN_FLIGHT:
            return f"a copy was told to come again{waited}"
        case Happening.MISMATCHED:
            return f"the key came with other content, and was refused{waited}"
        case Happening.REFUSED:
            return f"a repeat was told that the outcome is unknown{waited}"
        case Happening.SETTLED:
            applied = "it happened" if note.get("applied") else "it did not happen"
            return f"{by} settled it, {applied}: {why}"
        case Happening.FREED:
            return f"{by} released the key, nothing had happened: {why}"
        case Happening.FORGOTTEN | Happening.ERASED as what:
            return f"{by} let it be {what}: {why}"
        case what:
            return on_one_line(str(what))


def _told(moments: list[Moment]) -> Iterator[str]:
    ordered = sorted(moments, key=lambda each: each[0])
    lines = [f"  {_shown(at)}  {text}" for at, text in ordered]
    left_out = len(lines) - FIRST - LAST
    if left_out > 1:
        lines[FIRST:-LAST] = [f"  … {left_out} more in between …"]
    yield from lines


def _moment(text: object) -> datetime:
    try:
        return _aware(datetime.fromisoformat(str(text)))
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _aware(moment: datetime) -> datetime:
    # Without USE_TZ the project's clocks are meant.
    return moment if is_aware(moment) else make_aware(moment)


def _shown(moment: datetime) -> str:
    return f"{_aware(moment).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _times(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
