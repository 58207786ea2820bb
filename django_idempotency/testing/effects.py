"""By how much effects have grown, as far as that can be counted."""

from __future__ import annotations

from collections.abc import Sized
from numbers import Number
from typing import Any


def difference(before: Any, after: Any) -> object:
    """Return by how much numbers, those in a tuple or dict, or lengths have grown.

    ``None`` where effects are anything else: then only the answers can be compared.
    """
    match before, after:
        case Number(), Number():
            return after - before  # type: ignore[operator]
        case tuple(), tuple() if len(before) == len(after):
            return tuple(map(difference, before, after))
        case dict(), dict() if before.keys() == after.keys():
            return {name: difference(before[name], after[name]) for name in before}
        case (Sized(), Sized()) if not isinstance(before, str | bytes):
            return len(after) - len(before)
        case _:
            return None


def is_counted(change: object) -> bool:
    match change:
        case tuple():
            return any(map(is_counted, change))
        case dict():
            return any(map(is_counted, change.values()))
        case _:
            return change is not None
