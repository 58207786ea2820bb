"""The story of an operation, from its row, its links and the events that belong to it.

No clock: each situation is a line of a table in the tests. What isn't known is told as
such.
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
from django_idempotency.models import IdempotencyRecord, ProcessedEvent

from .happenings import (
    TIMES,
    act_row,
    copy_row,
    event_rows,
    expired_row,
    settled_row,
    step_rows,
)
from .related import Related
from .standing import Standing
from .telling import (
    Lane,
    Row,
    Story,
    Tone,
    briefly,
    clock,
    duration,
    in_order,
    moment,
    sentences,
)

MOST_STEPS = 20
"""In a story; the last ones."""


def story_of_record(
    record: IdempotencyRecord, related: Related, *, who: str = "", now: datetime
) -> Story:
    """Tell what happened; `who` is the customer as the reader may see it."""
    return _Telling(record, related.links, who, now, related.events).told()


@dataclass
class _Telling(Standing):
    events: Sequence[ProcessedEvent]
    rows: list[Row] = field(default_factory=list)

    def told(self) -> Story:
        self._tell_notes()
        for step in self.steps[-MOST_STEPS:]:
            self._tell_step(step)
        self.rows += event_rows(self.events)
        if self.is_undecided:
            self._tell_waiting()
        end = self.end()
        return Story(
            heading=self.heading(),
            end=end,
            sentence=sentences(self.arrivals(), end.known),
            rows=in_order(self.rows),
            look_for=self.look_for() if end.is_undecided else "",
            left_out=max(len(self.steps) - MOST_STEPS, 0),
        )

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
                case Happening.EXPIRED:
                    self.rows.append(expired_row(note))
                case Happening.FREED | Happening.FORGOTTEN | Happening.ERASED as act:
                    self.rows.append(act_row(act, note))
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
                is_start=True,
                note=", ".join(where),
                short=f"{short} · {self._end_word(end)}",
                until=until,
                is_open=is_open,
                tone=tone,
            )
        )
        if end is None and self.is_done:
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
        if end is None and self.is_done:
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
        if self.is_done:
            return str(self.record.response_status or gettext("done"))
        return gettext("running") if self.is_running else gettext("worker gone")

    def _tell_answer(self, at: datetime | None) -> None:
        status = self.record.response_status
        if status:
            text = (
                gettext("Answered with %(status)s.")
                if self.is_past
                else gettext("Answered with %(status)s; kept for repeats.")
            )
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
        since = clock(heard) if heard else "?"
        if self.lease_end is None:
            text = gettext("No word since %(time)s.") % {"time": since}
        else:
            text = gettext("No word since %(time)s; the lease ended %(end)s.") % {
                "time": since,
                "end": clock(self.lease_end),
            }
        self.rows.append(Row(lane=Lane.REQUESTS, at=until or heard, text=text))

    def _tell_end(
        self,
        at: datetime | None,
        note: dict[str, Any],
        *,
        is_held: bool,
        is_alone: bool,
    ) -> None:
        error = briefly(str(note.get("error") or ""))
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
        text, short = gettext("Waits for a person."), gettext("waits for a person")
        if since is not None:
            waited = {"time": duration(self.now - since)}
            text = gettext("Waits for a person, for %(time)s.") % waited
            short = gettext("waits for a person, for %(time)s") % waited
        self.rows.append(
            Row(
                lane=Lane.PEOPLE,
                at=self.now,
                text=text,
                short=short,
                tone=Tone.WAITING,
            )
        )
