"""How an operation stands, in words: what it is called, what is known, what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.history import MOST_NOTES, Happening
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import ERASED, TASK
from django_idempotency.models import IdempotencyRecord, OperationLink

from .related import is_customer
from .telling import End, Tone, duration, moment, sentences, shown_time, times


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
        self.is_past = record.is_tombstone_at(self.now)
        self.is_done = record.state == RecordState.KEPT or (
            record.state == RecordState.EXPIRED and record.response_status is not None
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
                if link.kind == LinkKind.OBJECT and not is_customer(link, self.record)
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
        others = (
            *(Happening.IN_FLIGHT, Happening.MISMATCHED),
            *(Happening.REFUSED, Happening.POSSIBLE_DUPLICATE),
        )
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

    def end(self) -> End:
        if self.is_running:
            return End(
                badge=gettext("running"),
                tone=Tone.PLAIN,
                known=gettext("It is running at this moment."),
                next=gettext("Its lease is until %(time)s; it may end before.")
                % {"time": shown_time(self.lease_end)},
            )
        if self.is_undecided:
            return self._undecided()
        if self.is_past:
            return self._past()
        match self.record.state:
            case RecordState.IN_FLIGHT:
                return End(
                    badge=gettext("worker gone: the next repeat goes on"),
                    tone=Tone.WAITING,
                    known=gettext("Not finished: its worker is gone."),
                    next=self._next_repeat(),
                )
            case RecordState.RELEASED:
                return self._free()
            case _:
                return self._kept()

    def _undecided(self) -> End:
        known = (
            sentences(
                "" if self.was_let_again else gettext("Nothing was done twice."),
                gettext("Whether “%(call)s” happened is not known.")
                % {"call": self.open_call},
            )
            if self.open_call
            else gettext(
                "Its view has ended the transaction of its claim: what of it is done is "
                "not known."
            )
        )
        return End(
            badge=gettext("held: needs a person"),
            tone=Tone.WAITING,
            known=known,
            next=gettext(
                "Until you answer, every retry gets “not known yet”, and nothing is done "
                "again."
            ),
            is_undecided=True,
        )

    def _free(self) -> End:
        note, is_settled, tone = self.last_note, True, Tone.PLAIN
        badge, later = gettext("settled: waits for the retry"), self._next_repeat()
        match note.get("what"):
            case Happening.SETTLED if note.get("applied"):
                known = gettext(
                    "The call has happened; the next repeat goes on after it."
                )
            case Happening.SETTLED:
                known = gettext("The call has not happened; the next repeat makes it.")
            case Happening.FREED:
                known = gettext("Nothing of it has happened.")
            case _:
                is_settled, tone = False, Tone.BAD
                badge = gettext("not done: free for a retry")
                known = gettext("Not finished; the next repeat tries again.")
                later = sentences(gettext("Mend what has failed."), later)
        if is_settled:
            later = sentences(gettext("It waits for that."), later)
        return End(badge=badge, tone=tone, known=known, next=later)

    def _next_repeat(self) -> str:
        if self.steps:
            return gettext("The next repeat goes on after the last step that is done.")
        return gettext("The next repeat does all of it.")

    def _kept(self) -> End:
        record = self.record
        status = record.response_status or 0
        is_refusal = status >= 400
        until = moment(record.expires_at)
        if record.scope == ERASED:
            known = gettext(
                "Done once; whose it was, and what was answered, was erased."
            )
        elif not status:
            known = gettext("Done once; nobody has its answer.")
        elif is_refusal:
            known = gettext("Refused once, and each repeat gets the same answer.")
        else:
            known = gettext("Done once.")
        if until is not None and until <= self.now:
            later = gettext("Its retention is over: a repeat would do it again.")
        elif record.scope == ERASED or not status:
            later = gettext(
                "A repeat is told that nobody has the answer (409), and runs nothing."
            )
        else:
            later = gettext("A repeat gets the answer %(status)s until %(time)s.") % {
                "status": status,
                "time": shown_time(until),
            }
        return End(
            badge=gettext("refused: %(status)s") % {"status": status}
            if is_refusal
            else gettext("done once"),
            tone=Tone.BAD if is_refusal else Tone.GOOD,
            known=known,
            next=later,
        )

    def _past(self) -> End:
        status = self.record.response_status or 0
        badge, tone = gettext("not finished, and over"), Tone.BAD
        known = gettext("It stopped in the middle, and nobody sent it again in time.")
        if self.is_done and status >= 400:
            badge = gettext("refused: %(status)s") % {"status": status}
            known = gettext("Refused once.")
        elif self.is_done:
            badge, tone = gettext("done once"), Tone.GOOD
            known = gettext("Done once.")
        return End(
            badge=badge,
            tone=tone,
            known=sentences(
                known,
                gettext("Its answer isn't kept any more: a late repeat is refused."),
            ),
            next=gettext(
                "A late repeat is refused until %(time)s (409), and runs nothing."
            )
            % {"time": shown_time(self.record.remembered_until)},
        )

    def _may_name(self, link: OperationLink) -> bool:
        """Whether the reader is told who the customer is, if it is that."""
        return not is_customer(link, self.record) or link.label == self.who

    def look_for(self) -> str:
        """Return a sentence on what to look for at the other side."""
        if not self.open_call:
            return gettext(
                "Look at what the work has written, and at what it has sent."
            )
        called = moment(self.steps[-1].get("began")) or self.record.created_at
        parts = [
            *(link.value for link in self.links if link.kind == LinkKind.REFERENCE),
            *(
                link.label
                for link in self.links
                if link.kind == LinkKind.OBJECT and link.label and self._may_name(link)
            ),
            *(link.amount for link in self.links if link.amount),
            shown_time(called),
            *(
                gettext("idempotency key %(key)s") % {"key": link.value}
                for link in self.links
                if link.kind == LinkKind.CALL and link.label == self.open_call
            ),
        ]
        return gettext("Look at the provider's list for “%(call)s”: %(what)s.") % {
            "call": self.open_call,
            "what": ", ".join(parts),
        }
