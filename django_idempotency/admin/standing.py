"""How an operation stands, in words: what it is called, its badge and its sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.history import MOST_NOTES, Happening
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import TASK
from django_idempotency.models import IdempotencyRecord, OperationLink

from .telling import Tone, duration, moment, sentences, times


@dataclass
class Standing:
    """What is known of an operation at a moment."""

    record: IdempotencyRecord
    links: Sequence[OperationLink]
    who: str
    now: datetime

    def __post_init__(self) -> None:
        record = self.record
        self.notes = [note for note in record.history or () if isinstance(note, dict)]
        self.last_note: dict[str, Any] = self.notes[-1] if self.notes else {}
        self.steps = record.steps
        self.lease_end = moment(record.lease_expires_at)
        self.is_running = self.lease_end is not None and self.lease_end > self.now
        is_lost = record.state == RecordState.IN_FLIGHT and self.lease_end is None
        self.is_undecided = not self.is_running and (
            record.state == RecordState.HELD or is_lost
        )
        last = self.steps[-1] if self.steps else {}
        self.open_call = "" if last.get("done", True) else str(last["name"])

    @property
    def was_let_again(self) -> bool:
        """Whether somebody has said of a call that it wasn't made, right or wrong."""
        return any(
            note.get("what") == Happening.SETTLED and not note.get("applied")
            for note in self.notes
        )

    def heading(self) -> str:
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

    def arrivals(self) -> str:
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

    def badge(self) -> tuple[str, Tone]:
        record = self.record
        if self.is_running:
            return gettext("running"), Tone.PLAIN
        if self.is_undecided:
            return gettext("held: needs a person"), Tone.WAITING
        if record.state == RecordState.IN_FLIGHT:
            return gettext("worker gone: the next repeat goes on"), Tone.WAITING
        if record.state == RecordState.RELEASED:
            if self.last_note.get("what") == Happening.SETTLED:
                return gettext("settled: waits for the retry"), Tone.PLAIN
            return gettext("not done: free for a retry"), Tone.BAD
        status = record.response_status or 0
        if status >= 400:
            return gettext("refused: %(status)s") % {"status": status}, Tone.BAD
        return gettext("done once"), Tone.GOOD

    def outcome(self) -> str:
        record = self.record
        call = {"call": self.open_call}
        if self.is_running:
            return gettext("It is running at this moment.")
        if self.is_undecided and not self.open_call:
            return gettext(
                "Its view has ended the transaction of its claim: what of it is done is "
                "not known."
            )
        if self.is_undecided:
            return sentences(
                "" if self.was_let_again else gettext("Nothing was done twice."),
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
        last = self.last_note
        if last.get("what") == Happening.SETTLED:
            return (
                gettext("The call has happened; the next repeat goes on after it.")
                if last.get("applied")
                else gettext("The call has not happened; the next repeat makes it.")
            )
        return gettext("Not finished; the next repeat tries again.")
