"""What the same means that was asked for under another key. Pure, as `decisions` is.

Whoever reloads a page, or lets an agent try again, may send what is meant once under a
fresh key each time. Within a window the second one is refused, until the client has named
the first one and said that it means another one.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta

from .decisions import Duplicate, InFlight, RecordState
from .operations import Intent, Operation, reference_of


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstView:
    """The record of whoever asked for the same before."""

    record_id: uuid.UUID
    state: str
    status: int
    """Of its answer; 0 if there is none."""
    age: timedelta
    lease_left: timedelta | None
    has_steps: bool


@dataclass(frozen=True, slots=True)
class Free:
    """It may be claimed."""

    confirmed_id: uuid.UUID | None = None
    """The record of the first one, if another one is meant beside it."""


def decide_intent(
    operation: Operation,
    intent: Intent,
    last: FirstView | None,
    confirmed: FirstView | None = None,
) -> Duplicate | InFlight | Free:
    """Return what is in the way, or that nothing is.

    `last` is the last one that was claimed, and `confirmed` the one beside which it was
    meant: if the last one comes to nothing, that one is the first one again. ``None``:
    its record is gone. Whatever was rolled back is gone with it.
    """
    if last is not None and last.record_id == operation.record_id:
        return Free(None if confirmed is None else confirmed.record_id)
    for first in (last, confirmed):
        if first is None or not _is_in_the_way(first, intent.window):
            continue
        # By its name: a flag would let through whatever came in between.
        if intent.confirms.strip().upper() == reference_of(first.record_id):
            return Free(first.record_id)
        if _is_running(first):
            return InFlight(retry_after=first.lease_left)
        return Duplicate(first.record_id, first.age)
    return Free()


def _is_running(first: FirstView) -> bool:
    return first.lease_left is not None and first.lease_left > timedelta(0)


def _is_in_the_way(first: FirstView, window: timedelta) -> bool:
    if _is_running(first):
        return True
    is_recent = first.age < window
    match first.state:
        case RecordState.KEPT | RecordState.EXPIRED:
            # A refusal is an outcome as well, but nothing is done twice after it.
            return is_recent and first.status < 400
        case RecordState.HELD:
            return True  # for as long as nobody knows
        case RecordState.IN_FLIGHT if first.lease_left is None:
            return True  # committed in the middle of its work: the same
        case _:
            # Released, or killed: what its steps have done stays done.
            return is_recent and first.has_steps
