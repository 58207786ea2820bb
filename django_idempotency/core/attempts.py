"""How the attempts at a webhook event went, noted for people.

Written as the notes of a record are: the database appends them in updates that happen
anyway. In the inbox an attempt has a note when it begins as well, which is committed
before the handler runs: what it leaves if it kills its worker.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from .events import EventState
from .history import noted, whereabouts

BEGUN = "begun"
_ENDS = frozenset(EventState)
LONGEST_ERROR = 255


class Way(StrEnum):
    """Who made an attempt."""

    INLINE = "inline"
    """The provider's delivery, which waited for it."""
    INBOX = "inbox"
    """A worker."""
    RERUN = "rerun"
    """A person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at an event; times are texts in UTC."""

    way: str
    by: str
    """The host and the process."""
    began: str = ""
    """Empty inline: what is noted there before the end is rolled back with it."""
    ended: str = ""
    """Empty if there is no word of it since it began."""
    outcome: str = ""
    """An `EventState`, as long as there is an end."""
    error: str = ""
    """The class, and what a `PermanentError` said."""


def noted_attempt(what: str, way: Way, error: str = "") -> str:
    """Return the note of an attempt's beginning or of its end, as JSON."""
    more = {"error": error[:LONGEST_ERROR]} if error else {}
    return noted(what, way=way, by=whereabouts(), **more)


def attempts_of(history: object) -> list[Attempt]:
    """Read the attempts from an event's notes, in the order in which they were made.

    Of many, those after the first are left out, and notes of others may be there.
    """
    attempts: list[Attempt] = []
    for note in history if isinstance(history, list) else []:
        if not isinstance(note, dict):
            continue
        what, way, at, by, error = (
            str(note.get(name, "")) for name in ("what", "way", "at", "by", "error")
        )
        if what == BEGUN:
            attempts.append(Attempt(way=way, by=by, began=at))
        elif what in _ENDS:
            ended = {"ended": at, "outcome": what, "error": error}
            last = attempts[-1] if attempts else None
            if last is not None and not last.outcome and last.way == way:
                attempts[-1] = replace(last, **ended)
            else:
                attempts.append(Attempt(way=way, by=by, **ended))
    return attempts


def without_texts(history: object) -> list[object]:
    """Return the notes without what handlers have said of the event."""
    return [
        {**note, "error": error_class(str(note["error"]))}
        if isinstance(note, dict) and "error" in note
        else note
        for note in (history if isinstance(history, list) else [])
    ]


def error_class(error: str) -> str:
    """Return the class of an error that is noted with its text."""
    return error.partition(":")[0]
