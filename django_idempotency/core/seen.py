"""What a person has seen of a row before deciding, as it travels in forms and commands."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.utils.translation import gettext, ngettext

from .history import OTHER_SIDE


def seen_as(state: str, attempts: int, since: datetime) -> str:
    """Return what tells this moment of a row from every later one.

    In one life of a row attempts only grow; `since` is when this life began.
    """
    return f"{state}:{attempts}:{int(since.timestamp()):x}"


def described(state: str, attempts: int) -> str:
    """Return the same for people; `state` as they read it."""
    return ngettext(
        "%(state)s after %(count)s attempt",
        "%(state)s after %(count)s attempts",
        attempts,
    ) % {"state": state, "count": attempts}


def told(notes: Any, did: str) -> str:
    """Return a sentence about the last of the notes on what people did; or nothing.

    `did` is that sentence, with places for by whom and why.
    """
    if not notes:
        return ""
    by, reason = (notes[-1].get(name, "") for name in ("by", "reason"))
    if by == OTHER_SIDE:
        by = gettext("The other side")
    return did % {"by": by or gettext("Somebody"), "reason": reason}


def changed_since(then: str, now: str, last_act: str) -> str:
    """Tell the second of two people, or the second click of one, what has happened."""
    parts = (
        gettext("It has changed since you looked: it was %(then)s and is %(now)s.")
        % {"then": then, "now": now},
        last_act,
        gettext("Nothing was done; look again and decide anew."),
    )
    return " ".join(part for part in parts if part)
