"""What has happened to an operation, noted for people: what, when, and where.

A record has a list of notes, each a JSON object with `what` happened and `at` what time,
by the clock of the server that saw it. The database appends to it, so that nobody has
to read it first, and keeps the first one and the last ones.

What the record's other columns say is not noted as well: when it was kept, and how its
steps went.
"""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime
from enum import StrEnum

MOST_NOTES = 20
"""In a record; of more, the second one is left out."""

LONGEST_TRACE = 64
"""Characters of a request's id."""

OTHER_SIDE = "the other side"
"""Who has settled an operation if it was no person: an event of a provider."""

_HOST = json.dumps(socket.gethostname())[1:-1]


class Happening(StrEnum):
    """What can happen to an operation."""

    CLAIMED = "claimed"
    """An attempt began."""
    RELEASED = "released"
    """An attempt ended without an answer that is kept; `error`: what was raised."""
    HELD = "held"
    """An attempt ended, and what became of its call is unknown."""
    REPLAYED = "replayed"
    """A copy got the first answer, `waited` seconds after it had come."""
    IN_FLIGHT = "in_flight"
    """A copy was told to come again, `waited` seconds after it had come."""
    MISMATCHED = "mismatched"
    """The key came with other content, and was refused."""
    POSSIBLE_DUPLICATE = "possible_duplicate"
    """The same came under another key, as `other`, and was refused until confirmed."""
    REFUSED = "refused"
    """It came again while the outcome was unknown, and was told so."""
    SETTLED = "settled"
    """A person, `by`, has found out whether the call was `applied`, and how: `reason`."""
    EXPIRED = "expired"
    """Its retention was over; the purge took its answer, some time later."""
    FREED = "freed"
    """A person, `by`, has found out that nothing has happened, and how: `reason`."""
    FORGOTTEN = "forgotten"
    """A person, `by`, let the answer be forgotten, and why: `reason`."""
    ERASED = "erased"
    """A person, `by`, let what is stored of somebody be erased, and why: `reason`."""


def with_note(history: object, note: dict[str, object]) -> list[object]:
    """Return the notes and one more, as the database would append it."""
    notes = list(history) if isinstance(history, list) else []
    if len(notes) >= MOST_NOTES:
        del notes[1]
    return [*notes, {"at": now_text(), **note}]


def bare(history: object) -> list[object]:
    """Return what happened and when, without anything that tells of people."""
    notes = history if isinstance(history, list) else []
    return [
        {name: note[name] for name in ("at", "what") if name in note}
        for note in notes
        if isinstance(note, dict)
    ]


def noted(what: str, **more: object) -> str:
    """Return a note as JSON."""
    return json.dumps({"at": now_text(), "what": what, **more})


def noted_claim(trace: str) -> str:
    """Return the note of a claim; `trace` is the id of the request, if it has one."""
    # Of each first call, so without an encoder: only what was sent can need one.
    request = f', "request": {json.dumps(trace)}' if trace else ""
    return (
        f'{{"at": "{now_text()}", "what": "claimed", "by": "{whereabouts()}"{request}}}'
    )


def whereabouts() -> str:
    """This host and process; a process may be the fork of another one."""
    return f"{_HOST}:{os.getpid()}"


def now_text() -> str:
    """Return this moment as a record's notes and steps have it, in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
