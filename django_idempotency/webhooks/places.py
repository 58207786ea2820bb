"""Where in a delivery something is, and how it is read there."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from django.utils.dateparse import parse_datetime

from .deliveries import Delivery, is_in_body

LONGEST = 255
"""A longer id is replaced by its digest; cut off, two could become the same."""
FOLDED = "sha256:"
YEARS = range(1970, 9999)
MILLISECONDS = 10**11
"""From here on a number counts milliseconds: as seconds it would be the year 5138."""

Place = str | tuple[str, ...]
"""A dotted path in the body, or ``header:Name``; of several, the values are joined."""


class UnusableDelivery(Exception):
    """The signature is right, but no event can be read; sending again won't help."""


def parts(place: Place) -> tuple[str, ...]:
    return (place,) if isinstance(place, str) else place


def at_path(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item


def values_at(delivery: Delivery, item: Any, place: Place) -> list[Any]:
    """Return what is at each part of a place; ``None`` for a missing part."""
    return [
        at_path(item, part)
        if is_in_body(part)
        else delivery.headers.get(part.removeprefix("header:"))
        for part in parts(place)
    ]


def first_of(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def mode_of(values: list[Any]) -> bool | None:
    """Read true or false, as JSON or as text; ``None`` if it is neither."""
    return {"true": True, "false": False}.get(str(first_of(values)).lower())


def id_parts(delivery: Delivery, item: Any, place: Place) -> list[str]:
    """Return the parts of an id; each must be there.

    Raises:
        UnusableDelivery: one isn't. All such events would count as one.
    """
    values = [_id_part(value) for value in values_at(delivery, item, place)]
    return _apart(values) if len(values) > 1 else values


def _apart(values: list[str]) -> list[str]:
    """Let "a:b" and "c" not look like "a" and "b:c" when they are joined."""
    return [value.replace("%", "%25").replace(":", "%3A") for value in values]


def account_of(values: list[Any]) -> str:
    """Return whose event it is: one of two accounts must not hide the other's events.

    Raises:
        UnusableDelivery: it can't be read.
    """
    texts = [_as_text(value) for value in values if value is not None]
    return identity_of(_apart(texts) if len(values) > 1 else texts)


def _id_part(value: Any) -> str:
    """Return text, or a whole number as text.

    A number with a fraction may have lost digits on its way, and 0 is what many
    languages have in place of nothing.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value:
        return str(value)
    if isinstance(value, str) and value:
        return value
    raise UnusableDelivery("the event has no id")


def identity_of(parts: list[str]) -> str:
    """
    Raises:
        UnusableDelivery: it can't be stored.
    """
    text = ":".join(parts)
    # What looks like a digest is folded as well, or it would be that of a long one.
    usable = _usable(text)
    return _folded(text) if text.startswith(FOLDED) else usable


def label_of(values: list[Any]) -> str:
    """Return a name outside of the identity; without it, nothing is lost."""
    try:
        return _usable(":".join(_as_text(each) for each in values if each is not None))
    except UnusableDelivery:
        return ""


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UnusableDelivery("there is an object in the place of a name")


def _usable(text: str) -> str:
    if not is_storable(text):
        raise UnusableDelivery("a name can't be stored")
    return text if len(text) <= LONGEST else _folded(text)


def _folded(text: str) -> str:
    return FOLDED + hashlib.sha256(text.encode()).hexdigest()


def is_storable(text: str) -> bool:
    """No database accepts half a surrogate pair, and some don't accept NUL."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def instant_of(value: Any) -> datetime | None:
    """Read a time of the provider; ``None`` if it can't be read."""
    try:
        instant = _read_instant(value)
        # Databases differ in the years that they can store.
        return instant if instant is not None and instant.year in YEARS else None
    except (ValueError, OverflowError, OSError):
        return None


def _read_instant(value: Any) -> datetime | None:
    if isinstance(value, str):
        instant = parse_datetime(value)
        if instant is None:
            return _read_instant(int(value))
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(
            UTC
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000 if abs(value) >= MILLISECONDS else value
        return datetime.fromtimestamp(seconds, UTC)
    return None
