"""The words of a story: times, durations and values, as people read them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from django.utils.formats import number_format
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext, ngettext

from django_idempotency.fields import with_zone

from .masking import as_text, printable

_MODULES = re.compile(r"^([a-z_0-9]+\.)+(?=\w)")
LONGEST_VALUE = 60
"""Characters of a step's result in a row; the whole of it is folded away below."""


class Lane(StrEnum):
    """Who did something."""

    REQUESTS = "requests"
    STEPS = "steps"
    PROVIDER = "provider"
    PEOPLE = "people"


class Tone(StrEnum):
    """How something looks."""

    PLAIN = "plain"
    GOOD = "good"
    WAITING = "waiting"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that happened."""

    lane: Lane
    at: datetime | None
    """``None``: it isn't known when."""
    text: str
    result: str = ""
    """What a step has returned: for pages only, since a story may go into a ticket."""
    note: str = ""
    """What only some look for, such as the process."""
    short: str = ""
    """The text in the drawing; what has none isn't drawn."""
    until: datetime | None = None
    """When it ended; or as far as it is drawn, if that isn't known."""
    is_open: bool = False
    """Whether it isn't known when it ended."""
    tone: Tone = Tone.PLAIN
    in_table: bool = True
    is_start: bool = False
    """Whether what follows in the same thousandth of a second came after it."""

    @property
    def clock(self) -> str:
        return clock(self.at) if self.at is not None else gettext("not known")

    @property
    def fraction(self) -> str:
        """The thousandths of the second, as what follows the clock."""
        return "" if self.at is None else fraction(self.at)

    @property
    def day(self) -> str:
        return day(self.at) if self.at is not None else ""

    @property
    def took(self) -> str:
        if self.is_open:
            return "?"
        if self.at is None or self.until is None:
            return ""
        return duration(self.until - self.at)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a row stands, in words."""

    badge: str
    tone: Tone
    known: str
    """What is known of it, and what isn't."""
    next: str
    """What comes next, and who has to do it."""
    is_undecided: bool = False
    """Whether it waits for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What pages and commands say of one row."""

    heading: str
    end: End
    sentence: str
    """How often it came, and what is known of it."""
    rows: tuple[Row, ...] = ()
    """In order; those without a time are last."""
    look_for: str = ""
    """What a person has to find out before deciding."""
    left_out: int = field(default=0)
    """Steps that there were before those that are told."""

    @property
    def table(self) -> list[Row]:
        return [row for row in self.rows if row.in_table]


def in_order(rows: list[Row]) -> tuple[Row, ...]:
    timed = sorted(
        (row for row in rows if row.at is not None),
        key=lambda row: (row.at or 0, _rank(row)),
    )
    return (*timed, *(row for row in rows if row.at is None))


def _rank(row: Row) -> int:
    """Order what has one time: a beginning, its steps, and then how it ended."""
    if row.is_start:
        return 0
    return 1 if row.lane in (Lane.STEPS, Lane.PROVIDER) else 2


def moment(value: object) -> datetime | None:
    """Return a time of a row or of a note, always with a zone; ``None``: it has none."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    return with_zone(value)


def clock(at: datetime) -> str:
    return localtime(at).strftime("%H:%M:%S")


def fraction(at: datetime) -> str:
    return f".{at.microsecond // 1000:03}"


def day(at: datetime) -> str:
    return localtime(at).strftime("%Y-%m-%d")


def shown_time(value: datetime | None) -> str:
    """Return a moment to the minute, with its time zone; nothing if there is none."""
    at = moment(value)
    return localtime(at).strftime("%Y-%m-%d %H:%M %Z") if at is not None else ""


def zone() -> str:
    return localtime(datetime.now(UTC)).tzname() or "UTC"


def duration(took: timedelta) -> str:
    """Return a length of time in at most two units."""
    seconds = max(took.total_seconds(), 0)
    if seconds < 1:
        return gettext("%(count)s ms") % {"count": f"{seconds * 1000:.0f}"}
    if seconds < 60:
        number = number_format(seconds, decimal_pos=1, use_l10n=True)
        return gettext("%(number)s s") % {"number": number}
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        if rest and minutes < 5:
            both = {"minutes": minutes, "seconds": rest}
            return gettext("%(minutes)s min %(seconds)s s") % both
        return gettext("%(minutes)s min") % {"minutes": minutes}
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        if minutes:
            pair = {"hours": hours, "minutes": minutes}
            return gettext("%(hours)s h %(minutes)s min") % pair
        return gettext("%(hours)s h") % {"hours": hours}
    days = hours // 24
    return ngettext("%(count)s day", "%(count)s days", days) % {"count": days}


def times(count: int, *, at_least: bool = False) -> str:
    text = ngettext("once", "%(count)s times", count) % {"count": count}
    return gettext("at least %(times)s") % {"times": text} if at_least else text


def value(result: Any) -> str:
    """Return a step's result in a line; secrets in it are masked."""
    if isinstance(result, dict) and isinstance(result.get("id"), str):
        result = result["id"]
    text = printable(result) if isinstance(result, str) else as_text(result, None)
    return Truncator(text).chars(LONGEST_VALUE)


def briefly(error: str) -> str:
    """Return an error without the modules of its class, behind which it is read last."""
    return _MODULES.sub("", error)


def sentences(*parts: str) -> str:
    return " ".join(part for part in parts if part)
