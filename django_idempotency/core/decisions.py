"""What to do about a record that is already there. Start reading here.

`decide()` is pure: no database, no clock, no settings. The store reads the row and lets
the database compare the times; the engine acts on the decision.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from .operations import ERASED, Operation, StoredAnswer


class RecordState(StrEnum):
    """The life of a record."""

    IN_FLIGHT = "in_flight"
    """Claimed. Other sessions see it only if the claim was committed on its own."""
    KEPT = "kept"
    """Done; the answer is stored and will be replayed."""
    RELEASED = "released"
    """An attempt failed; the key is free for the same payload."""
    HELD = "held"
    """The outcome is unknown and a person decides; never expires."""
    EXPIRED = "expired"
    """Its retention is over, and its answer is gone; that it was done is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """A committed record as one request sees it."""

    scope: str
    key: str
    fingerprint: str
    state: str
    expired: bool
    """Past its retention, by the database's clock."""
    is_remembered: bool = False
    """Not past its tombstone's time, and something was done: see Note [Tombstones]."""
    answer: StoredAnswer | None
    """``None``: nothing is stored, or it can't be read."""
    why_unreadable: str = ""
    lease_left: timedelta | None = None
    """By the database's clock; negative: it has expired; ``None``: there is no lease."""
    location: str | None = None
    """Where the row is (PostgreSQL's ctid), until another write moves it."""
    kept_until: int | None = None
    """The end of its retention, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Replay:
    """Send the stored answer; never run."""

    answer: StoredAnswer
    kept_until: int | None = field(default=None, compare=False)
    """How long the next repeat gets it, too, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Renew:
    """The row is free: claim it by locking it, look again, and run."""

    is_over: bool = False
    """Whether nothing of it counts any more: it is deleted, and claimed as if new."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """Somebody else is running it."""

    retry_after: timedelta | None = None
    """How long it may still take at most, if that is known."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The key was used for another payload."""


@dataclass(frozen=True, slots=True)
class Held:
    """It is unknown whether the operation happened; a person decides."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It was done, but the stored answer can't be read, or was forgotten."""

    why: str = field(default="", compare=False)
    """Why it can't be decoded, for the log."""


@dataclass(frozen=True, slots=True)
class Expired:
    """It was done, and its answer was kept for as long as was promised."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The same was asked for under another key, and may be meant once: see `intents`."""

    first_id: uuid.UUID
    """The record of the first one."""
    age: timedelta
    """Since the first one was done, or, if it wasn't, since it was asked for."""
    about: str = ""
    """What the first one calls its object."""


Verdict = Replay | InFlight | Mismatch | Held | Unreadable | Expired | Duplicate
"""What the request gets instead of running."""

Decision = Verdict | Renew

# Note [Tombstones]
# With a tombstone, the end of the retention isn't the end of a record: its answer goes,
# and the row stays, so that a late retry is refused and not done a second time. That
# holds from the moment at which the retention is over, whether or not the purge has come
# by. It is so of everything that has done something, also of an operation that stopped
# between two steps; one of which all was rolled back, or of which a person has said that
# nothing was done, stands for nothing, and is free.
# A tombstone is compared like a live record: another payload is a mismatch.


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nothing stands under the key, and nobody was running it at a moment just now."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An attempt was made and has come to no answer, and nobody is running it now."""


Unanswered = (
    InFlight | Mismatch | Held | Unreadable | Expired | Duplicate | Unknown | Unfinished
)

Standing = Replay | Unanswered
"""What is told to somebody who asks, and doesn't want it done."""


def decide(operation: Operation, row: RowView, scope: str) -> Decision:
    """Return what the operation may do, given the committed row under its id.

    `scope` is the operation's scope in the form in which it is stored.
    """
    # Whose it was is not known any more, but that it was done: nobody runs it again, and
    # its retention doesn't matter, since a renewed row would still lack its scope.
    if row.scope == ERASED:
        return Unreadable()
    # Two scopes or keys with the same digest are as good as impossible, but without
    # this check one customer would get another one's answer.
    if (row.scope, row.key) != (scope, operation.key):
        return Mismatch()
    # The stored lease decides, also for a view that has none or another one.
    if row.lease_left is not None and row.lease_left > timedelta(0):
        return InFlight(retry_after=row.lease_left)
    if row.state == RecordState.HELD:
        return Held()
    # A claim without a lease is committed with its answer. One that has none was
    # committed by the work itself, and nobody knows what of it is done.
    if row.state == RecordState.IN_FLIGHT and row.lease_left is None:
        return Held()
    is_past = row.expired or row.state == RecordState.EXPIRED
    if is_past and not row.is_remembered:
        return Renew(is_over=True)
    if not operation.fingerprint.matches(row.fingerprint):
        return Mismatch()
    if is_past:
        return Expired()
    if row.state in (RecordState.RELEASED, RecordState.IN_FLIGHT):
        return Renew()
    if row.answer is None:
        return Unreadable(row.why_unreadable)
    return Replay(row.answer, row.kept_until)
