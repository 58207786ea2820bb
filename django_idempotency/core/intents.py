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


def decide_intent(
    operation: Operation, intent: Intent, first: FirstView | None
) -> Duplicate | InFlight | None:
    """Return what is in the way; ``None``: nothing, it may be claimed.

    `first` is ``None`` if its record is gone. Whatever was rolled back is gone with it.
    """
    if first is None or first.record_id == operation.record_id:
        return None
    # By its name: a flag would let through whatever came in between.
    if intent.confirms.strip().upper() == reference_of(first.record_id):
        return None
    if first.lease_left is not None and first.lease_left > timedelta(0):
        return InFlight(retry_after=first.lease_left)
    if _is_in_the_way(first, intent.window):
        return Duplicate(first.record_id, first.age)
    return None


def _is_in_the_way(first: FirstView, window: timedelta) -> bool:
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
