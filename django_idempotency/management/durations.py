from __future__ import annotations

import re
from argparse import ArgumentTypeError
from datetime import timedelta

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PART = re.compile(r"(\d+)([smhdw])")


def duration(text: str) -> timedelta:
    """Read ``90s``, ``36h``, ``7d`` or ``1d12h``: whole numbers, each with a unit.

    A number alone is refused, since nobody can tell what it was meant in.

    Raises:
        ArgumentTypeError: with a sentence for the command line.
    """
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ArgumentTypeError(
            f"{text!r} is no duration; write numbers with a unit (s, m, h, d, w), "
            "such as 7d or 1d12h"
        )
    try:
        return sum(
            (timedelta(**{UNITS[unit]: int(number)}) for number, unit in parts),
            timedelta(0),
        )
    except (OverflowError, ValueError):
        raise ArgumentTypeError(f"{text!r} is longer than time goes") from None
