"""Bar charts as shapes that a template draws: nothing but numbers and words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext

WIDTH, HEIGHT = 480, 120
GAP = 0.16
"""Of a bar's room, the part that stays free."""
LOWEST = 1.5
"""Height of what is little but isn't nothing."""
TICKS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time that the page is about, in bars of equal length."""

    name: str
    """As in the address."""
    label: str
    bars: int
    hours: int
    """Of a bar."""

    @property
    def starts(self) -> list[datetime]:
        """When each bar begins, in the time zone of whoever looks; the last one is now."""
        now = timezone.now()
        local = timezone.localtime(now) if timezone.is_aware(now) else now
        begun = local.replace(
            hour=local.hour - local.hour % self.hours, minute=0, second=0, microsecond=0
        )
        bar = timedelta(hours=self.hours)
        return [begun - bar * back for back in reversed(range(self.bars))]

    def index(self, starts: Sequence[datetime], moment: datetime) -> int:
        """Return the number of the bar in which this moment is."""
        number = (moment - starts[0]) // timedelta(hours=self.hours)
        return min(max(number, 0), self.bars - 1)

    def named(self, start: datetime) -> str:
        form = "H:i" if self.hours == 1 else "D j, H:i" if self.hours < 24 else "j M"
        return date_format(start, form)


def spans() -> tuple[Span, ...]:
    return (
        Span(name="24h", label=gettext("last 24 hours"), bars=24, hours=1),
        Span(name="7d", label=gettext("last 7 days"), bars=28, hours=6),
        Span(name="30d", label=gettext("last 30 days"), bars=30, hours=24),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One rectangle of the drawing."""

    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    name: str
    lower: Block | None
    upper: Block | None
    cells: tuple[str, ...]
    """The same in words, for the table."""

    @property
    def title(self) -> str:
        return f"{self.name}: {', '.join(self.cells)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    name: str
    title: str
    summary: str
    """What somebody hears who can't see it."""
    heads: tuple[str, ...]
    """Of the table."""
    bars: tuple[Bar, ...]
    caption: str

    @property
    def view_box(self) -> str:
        return f"0 0 {WIDTH} {HEIGHT}"

    @property
    def ticks(self) -> list[str]:
        step = len(self.bars) // TICKS
        return [self.bars[number * step].name for number in range(TICKS)]

    @property
    def is_empty(self) -> bool:
        return not any(bar.lower or bar.upper for bar in self.bars)


def drawn(
    names: Sequence[str],
    lower: Sequence[float],
    upper: Sequence[float],
    words: Callable[[int], tuple[str, ...]],
) -> tuple[Bar, ...]:
    """Return the bars, `upper` standing on `lower`; the highest fills the drawing."""
    highest = max((low + up for low, up in zip(lower, upper, strict=True)), default=0)
    room = WIDTH / max(1, len(names))

    def block(number: int, value: float, floor: float) -> Block | None:
        if not value:
            return None
        height = max(LOWEST, value / highest * (HEIGHT - 2 * LOWEST))
        return Block(
            x=_number(room * (number + GAP / 2)),
            y=_number(HEIGHT - floor - height),
            width=_number(room * (1 - GAP)),
            height=_number(height),
        )

    bars = []
    for number, name in enumerate(names):
        low = block(number, lower[number], 0)
        up = block(number, upper[number], float(low.height) if low else 0)
        bars.append(Bar(name=name, lower=low, upper=up, cells=words(number)))
    return tuple(bars)


def _number(value: float) -> str:
    # As text: a template would write 1.5 as 1,5 in some languages.
    return f"{value:.1f}"
