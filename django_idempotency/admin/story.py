"""The story of an operation, from its row, its links and the events that belong to it.

Pure: no query and no clock, so that each situation is a line of a table in the tests.
What isn't known is told as such.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.utils.translation import gettext

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.history import MOST_NOTES, Happening
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import TASK
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent

from .happenings import TIMES, copy_row, event_rows, settled_row, step_rows
from .telling import (
    Lane,
    Row,
    Story,
    Tone,
    clock,
    duration,
    in_order,
    moment,
    sentences,
    times,
)

MOST_STEPS = 20
"""In a story; the last ones."""


def story_of(
    record: IdempotencyRecord,
    *,
    links: Sequence[OperationLink] = (),
    events: Sequence[ProcessedEvent] = (),
    who: str = "",
    now: datetime,
) -> Story:
    """Tell what happened; `who` is the customer as the reader may see it."""
    return _Telling(record, links, events, who, now).told()


@dataclass
class _Telling:
    record: IdempotencyRecord
    links: Sequence[OperationLink]
    events: Sequence[ProcessedEvent]
    who: str
    now: datetime
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        record = self.record
        self.notes = [note for note in record.history or () if isinstance(note, dict)]
        self.steps = record.steps
        self.lease_end = moment(record.lease_expires_at)
        self.is_running = self.lease_end is not None and self.lease_end > self.now
        self.is_lost = record.state == RecordState.IN_FLIGHT and self.lease_end is None
        self.is_undecided = not self.is_running and (
            record.state == RecordState.HELD or self.is_lost
        )
        last = self.steps[-1] if self.steps else {}
        self.open_call = "" if last.get("done", True) else str(last["name"])

    @property
    def _last_note(self) -> dict[str, Any]:
        return self.notes[-1] if self.notes else {}

    def told(self) -> Story:
        self._tell_notes()
        for step in self.steps[-MOST_STEPS:]:
            self._tell_step(step)
        self.rows += event_rows(self.events)
        if self.is_undecided:
            self._tell_waiting()
        badge, tone = self._badge()
        return Story(
            heading=self._heading(),
            badge=badge,
            tone=tone,
            sentence=sentences(self._arrivals(), self._outcome()),
            rows=in_order(self.rows),
            call=self.open_call,
            is_undecided=self.is_undecided,
            left_out=max(len(self.steps) - MOST_STEPS, 0),
        )

    # The words above

    def _heading(self) -> str:
        amount = next((link.amount for link in self.links if link.amount), "")
        about = next(
            (
                link.label or link.value
                for link in self.links
                if link.kind == LinkKind.OBJECT
            ),
            "",
        )
        record = self.record
        if amount:
            what = gettext("Payment of %(amount)s") % {"amount": amount}
        elif about:
            what = about
        elif record.method == TASK:
            what = gettext("Task %(name)s") % {"name": record.key}
        else:
            what = f"{record.method} {record.path}"
        if not self.who or record.method == TASK:
            return what
        return gettext("%(what)s by %(who)s") % {"what": what, "who": self.who}

    def _arrivals(self) -> str:
        record = self.record
        others = (Happening.IN_FLIGHT, Happening.MISMATCHED, Happening.REFUSED)
        count = record.attempts + record.replays
        count += sum(note.get("what") in others for note in self.notes)
        known = [moment(note.get("at")) for note in self.notes]
        known += [moment(record.created_at), moment(record.last_replayed_at)]
        seen = sorted(at for at in known if at is not None)
        arrived = times(max(count, 1), at_least=len(self.notes) >= MOST_NOTES)
        if count < 2 or not seen or record.method == TASK:
            return gettext("Arrived %(times)s.") % {"times": arrived}
        return gettext("Arrived %(times)s in %(span)s.") % {
            "times": arrived,
            "span": duration(seen[-1] - seen[0]),
        }

    def _badge(self) -> tuple[str, Tone]:
        record = self.record
        if self.is_running:
            return gettext("running"), Tone.PLAIN
        if self.is_undecided:
            return gettext("held: needs a person"), Tone.WAITING
        if record.state == RecordState.IN_FLIGHT:
            return gettext("worker gone: the next repeat goes on"), Tone.WAITING
        if record.state == RecordState.RELEASED:
            if self._last_note.get("what") == Happening.SETTLED:
                return gettext("settled: waits for the retry"), Tone.PLAIN
            return gettext("not done: free for a retry"), Tone.BAD
        status = record.response_status or 0
        if status >= 400:
            return gettext("refused: %(status)s") % {"status": status}, Tone.BAD
        return gettext("done once"), Tone.GOOD

    def _outcome(self) -> str:
        record = self.record
        call = {"call": self.open_call}
        if self.is_running:
            return gettext("It is running at this moment.")
        if self.is_lost and not self.open_call:
            return gettext(
                "Its view has ended the transaction of its claim: what of it is done is "
                "not known."
            )
        if self.is_undecided:
            return sentences(
                gettext("Nothing was done twice."),
                gettext("Whether “%(call)s” happened is not known.") % call,
            )
        if record.state == RecordState.IN_FLIGHT:
            return gettext("Not finished: its worker is gone. The next repeat goes on.")
        if record.state == RecordState.RELEASED:
            return self._free()
        if not record.response_status:
            return gettext(
                "Done once, as a person has found out; nobody has its answer."
            )
        if record.response_status >= 400:
            return gettext("Refused once, and each repeat gets the same answer.")
        return gettext("Done once.")

    def _free(self) -> str:
        last = self._last_note
        if last.get("what") == Happening.SETTLED:
            return (
                gettext("The call has happened; the next repeat goes on after it.")
                if last.get("applied")
                else gettext("The call has not happened; the next repeat makes it.")
            )
        return gettext("Not finished; the next repeat tries again.")

    # What happened

    def _tell_notes(self) -> None:
        notes = self.notes
        has_claim = any(note.get("what") == Happening.CLAIMED for note in notes)
        # A failed transaction takes the note of its claim along.
        if not has_claim and self.record.state != RecordState.RELEASED:
            begun = {"what": Happening.CLAIMED, "at": self.record.created_at}
            notes = [begun, *notes]
        attempt = 0
        for index, note in enumerate(notes):
            at = moment(note.get("at"))
            match note.get("what"):
                case Happening.CLAIMED:
                    attempt += 1
                    self._tell_attempt(at, note, notes[index + 1 :], attempt)
                case Happening.RELEASED | Happening.HELD as what:
                    is_held = what == Happening.HELD
                    self._tell_end(at, note, is_held=is_held, is_alone=not attempt)
                case Happening.SETTLED:
                    self.rows.append(settled_row(note))
                case what:
                    status = self.record.response_status
                    self.rows.append(copy_row(str(what), note, status))
        if len(notes) >= MOST_NOTES:
            self.rows.append(
                Row(
                    lane=Lane.REQUESTS,
                    at=None,
                    text=gettext(
                        "More has happened between the first and the last ones."
                    ),
                )
            )

    def _tell_attempt(
        self,
        at: datetime | None,
        note: dict[str, Any],
        later: list[dict[str, Any]],
        number: int,
    ) -> None:
        ends = (Happening.RELEASED, Happening.HELD, Happening.CLAIMED)
        end = next((each for each in later if each.get("what") in ends), None)
        name = (
            gettext("First request, key claimed.")
            if number == 1
            else gettext("A retry took it up.")
        )
        short, tone, until, is_open = (
            gettext("try %(n)s") % {"n": number},
            *self._end(at, end),
        )
        where = [str(note[each]) for each in ("by", "request") if note.get(each)]
        self.rows.append(
            Row(
                lane=Lane.REQUESTS,
                at=at,
                text=name,
                note=", ".join(where),
                short=f"{short} · {self._end_word(end)}",
                until=until,
                is_open=is_open,
                tone=tone,
            )
        )
        if end is None and self.record.state == RecordState.KEPT:
            self._tell_answer(until)
        elif is_open and not self.is_running:
            self._tell_silence(at, until, end)

    def _end(
        self, at: datetime | None, end: dict[str, Any] | None
    ) -> tuple[Tone, datetime | None, bool]:
        """Return how an attempt looks, and until when; and whether that isn't known."""
        if end is not None and end["what"] != Happening.CLAIMED:
            is_held = end["what"] == Happening.HELD
            return Tone.WAITING if is_held else Tone.BAD, moment(end.get("at")), False
        if end is None and self.record.state == RecordState.KEPT:
            return Tone.GOOD, moment(self.record.completed_at), False
        if self.is_running:
            return Tone.PLAIN, self.now, True
        if end is not None:
            return Tone.BAD, moment(end.get("at")), True
        return Tone.BAD, self.lease_end or self._last_word(at), True

    def _end_word(self, end: dict[str, Any] | None) -> str:
        if end is not None:
            return {
                Happening.RELEASED: gettext("failed"),
                Happening.HELD: gettext("outcome unknown"),
            }.get(end["what"], gettext("worker gone"))
        if self.record.state == RecordState.KEPT:
            return str(self.record.response_status or gettext("done"))
        return gettext("running") if self.is_running else gettext("worker gone")

    def _tell_answer(self, at: datetime | None) -> None:
        status = self.record.response_status
        if status:
            text = gettext("Answered with %(status)s; kept for repeats.")
            self.rows.append(
                Row(lane=Lane.REQUESTS, at=at, text=text % {"status": status})
            )

    def _last_word(self, since: datetime | None) -> datetime | None:
        words = [moment(step.get(each)) for step in self.steps for each in TIMES]
        known = [at for at in (since, *words) if at is not None]
        return max(known, default=None)

    def _tell_silence(
        self, at: datetime | None, until: datetime | None, end: Any
    ) -> None:
        if end is not None:
            return  # the retry that took it up says so
        heard = self._last_word(at)
        text = gettext("No word since %(time)s") % {
            "time": clock(heard) if heard else "?"
        }
        if self.lease_end is not None:
            ended = clock(self.lease_end)
            text += gettext("; the lease ended %(time)s") % {"time": ended}
        self.rows.append(Row(lane=Lane.REQUESTS, at=until or heard, text=f"{text}."))

    def _tell_end(
        self,
        at: datetime | None,
        note: dict[str, Any],
        *,
        is_held: bool,
        is_alone: bool,
    ) -> None:
        error = str(note.get("error") or "")
        text = (
            gettext("The attempt ended, and what became of its call is unknown: held.")
            if is_held
            else gettext("The attempt ended without an answer to keep.")
        )
        tone = Tone.WAITING if is_held else Tone.BAD
        self.rows.append(
            Row(
                lane=Lane.REQUESTS,
                at=at,
                text=text,
                note=error,
                # Else it is the end of a bar.
                short=gettext("failed") if is_alone else "",
                tone=tone,
            )
        )

    def _tell_step(self, step: dict[str, Any]) -> None:
        keys = (
            link.value
            for link in self.links
            if link.kind == LinkKind.CALL and link.label == step["name"]
        )
        self.rows += step_rows(
            step,
            key=next(keys, ""),
            running_until=self.now if self.is_running else None,
            ended=self.lease_end,
        )

    def _tell_waiting(self) -> None:
        since = moment(self.record.held_since) or self.lease_end
        text = gettext("Waits for a person")
        if since is not None:
            text += gettext(", for %(time)s") % {"time": duration(self.now - since)}
        self.rows.append(
            Row(
                lane=Lane.PEOPLE,
                at=self.now,
                text=f"{text}.",
                short=text.lower(),
                tone=Tone.WAITING,
            )
        )
