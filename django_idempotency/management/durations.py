from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import timedelta

from django_idempotency.conf import LONGEST_DURATION

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART = re.compile(r"(\d+)([smhdw])")


def duration(text: str) -> timedelta:
    """Read ``90s``, ``36h``, ``7d`` or ``1d12h``: whole numbers, each with a unit.

    A number alone is refused, since its unit could only be guessed.

    Raises:
        ArgumentTypeError: with a message for the command line.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ArgumentTypeError(
            f"{text!r} isn't a duration; write numbers with a unit (s, m, h, d, w), "
            "such as 7d or 1d12h"
        )
    try:
        length = sum(
            (timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts),
            timedelta(0),
        )
    except (OverflowError, ValueError):
        length = timedelta.max
    if length > LONGEST_DURATION:
        raise ArgumentTypeError(f"{text!r} is too long")
    return length


def spelled(length: timedelta) -> str:
    """Return a length for people, by its two largest units: ``35m 10s``."""
    left = max(0, int(length.total_seconds()))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])
