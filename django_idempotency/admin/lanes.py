"""The rows of a story as a drawing: a lane for each of those who did something.

Pure geometry. Across, everything is in percent, so that the drawing is as wide as its
page and its letters stay as large; down, in pixels.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.utils.text import Truncator
from django.utils.translation import gettext

from django_idempotency.stories.telling import Lane, Row, clock, fraction

LINE = 26
TOP = 30
NAME = 22
BAR = 18
LETTER = 1.4
"""Percent of the narrowest drawing, which the style sheet lets scroll below that."""
FINE = timedelta(seconds=10)
"""In a shorter time several moments have the same second."""
LONGEST = 40
SHORTEST = 0.4
"""Percent, so that a step of a millisecond is seen."""
TICK, FINE_TICK = 13, 18
"""Percent that the label of a time takes, without and with thousandths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    x: str
    label: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A bar, or a dot if it has no width, with its text."""

    x: str
    width: str
    y: int
    middle: int
    baseline: int
    text_x: str
    anchor: str
    text: str
    style: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneDrawn:
    name: str
    baseline: int
    bottom: int
    shapes: tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    height: int
    top: int
    bar: int
    ticks: tuple[Tick, ...]
    lanes: tuple[LaneDrawn, ...]


def drawing_of(rows: Sequence[Row]) -> Drawing | None:
    """Return how to draw these rows; ``None``: there is nothing whose time is known."""
    drawn = [row for row in rows if row.short and row.at is not None]
    if not drawn:
        return None
    axis = _Axis.of(drawn)
    lanes, y = [], TOP
    for lane in Lane:
        of_lane = [row for row in drawn if row.lane == lane]
        if of_lane:
            lanes.append(_lane(lane, of_lane, axis, y))
            y = lanes[-1].bottom
    return Drawing(
        height=y + 2, top=TOP - 8, bar=BAR, ticks=axis.ticks(), lanes=tuple(lanes)
    )


def _lane(lane: Lane, rows: Sequence[Row], axis: _Axis, top: int) -> LaneDrawn:
    lines: list[float] = []
    """How far each line is taken."""
    shapes = []
    for row in rows:
        placed = _placed(row, axis)
        number = next(
            (n for n, taken in enumerate(lines) if taken < placed.left), len(lines)
        )
        if number == len(lines):
            lines.append(0)
        lines[number] = placed.right + 1
        shapes.append(placed.shape(top + NAME + number * LINE))
    bottom = top + NAME + len(lines) * LINE + 8
    names = {
        Lane.REQUESTS: gettext("Requests"),
        Lane.STEPS: gettext("Steps"),
        Lane.PROVIDER: gettext("Provider"),
        Lane.PEOPLE: gettext("People"),
    }
    return LaneDrawn(
        name=names[lane], baseline=top + 15, bottom=bottom, shapes=tuple(shapes)
    )


@dataclass(frozen=True, slots=True)
class _Placed:
    row: Row
    x: float
    width: float
    text: str
    text_x: float
    anchor: str
    left: float
    right: float

    def shape(self, y: int) -> Shape:
        style = str(self.row.tone) + (" open" if self.row.is_open else "")
        return Shape(
            x=_percent(self.x),
            width=_percent(self.width) if self.width else "",
            y=y,
            middle=y + BAR // 2,
            baseline=y + BAR // 2 + 4,
            text_x=_percent(self.text_x),
            anchor=self.anchor,
            text=self.text,
            style=style,
        )


def _placed(row: Row, axis: _Axis) -> _Placed:
    assert row.at is not None  # noqa: S101 - for mypy; drawing_of() has looked
    x = axis.x(row.at)
    end = axis.x(row.until) if row.until is not None else x
    width = max(end - x, SHORTEST) if row.until is not None else 0
    x = min(x, 100 - width)
    text = Truncator(row.short).chars(LONGEST)
    length = len(text) * LETTER
    after = x + (width or 1)
    if width > length + 2:
        return _Placed(row, x, width, text, x + 1, "start", x, x + width)
    if after + length + 1 < 100:
        return _Placed(row, x, width, text, after + 0.8, "start", x, after + length + 1)
    return _Placed(row, x, width, text, x - 1.6, "end", x - length - 1.9, x + width)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Time from left to right, on which a long gap is drawn shorter than it is."""

    times: list[datetime]
    places: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Axis:
        every = (at for row in rows for at in (row.at, row.until) if at is not None)
        axis = cls(sorted(set(every)))
        total = 0.0
        for index, at in enumerate(axis.times):
            if index:
                gap = (at - axis.times[index - 1]).total_seconds()
                total += math.log1p(gap * 10)
            axis.places.append(total)
        return axis

    def x(self, at: datetime) -> float:
        # The dots at both ends have to be inside.
        place = self.places[bisect_left(self.times, at)]
        return 1 + 98 * place / (self.places[-1] or 1)

    def ticks(self) -> tuple[Tick, ...]:
        first, last = self.times[0], self.times[-1]
        is_fine = last - first < FINE
        tick = FINE_TICK if is_fine else TICK
        chosen = [first] if self.x(last) < 2 * tick else [first, last]
        for at in self.times:
            x = self.x(at)
            # That of the last one is written to its left.
            if all(abs(x - self.x(each)) > tick for each in chosen) and (
                last not in chosen or x < 100 - 2 * tick
            ):
                chosen.append(at)
        return tuple(
            Tick(
                x=_percent(self.x(at)),
                label=clock(at) + (fraction(at) if is_fine else ""),
                anchor="end" if at == last and len(chosen) > 1 else "start",
            )
            for at in sorted(chosen)
        )


def _percent(number: float) -> str:
    return f"{number:.2f}%"
