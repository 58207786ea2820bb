"""What the commands read and write: durations, and how far they are."""

from argparse import ArgumentTypeError
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management.base import OutputWrapper
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.management import progress
from django_idempotency.management.durations import duration
from django_idempotency.management.progress import Progress
from tests.support.cases import cases


@cases(
    "text, expected",
    {
        "seconds": ("90s", timedelta(seconds=90)),
        "minutes": ("5m", timedelta(minutes=5)),
        "hours": ("36h", timedelta(hours=36)),
        "days": ("7d", timedelta(days=7)),
        "weeks": ("2w", timedelta(weeks=2)),
        "sum": ("1d12h", timedelta(days=1, hours=12)),
        "any-order": ("12h1d", timedelta(days=1, hours=12)),
        "unit-twice": ("1h1h", timedelta(hours=2)),
        "nothing": ("0s", timedelta(0)),
    },
)
def test_duration_is_read(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


NO_DURATIONS = ["", "7", "d", "7 d", " 7d", "7d\n", "-7d", "+7d", "7D", "1.5h", "7d12"]


@pytest.mark.parametrize("text", [*NO_DURATIONS, "7y", "1e3s"], ids=repr)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="isn't a duration"):
        duration(text)


@pytest.mark.parametrize("text", ["9999999999d", "9" * 5_000 + "s"], ids=len)
def test_too_long_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is too long"):
        duration(text)


@given(st.text() | st.text("0123456789smhdw", max_size=40))
def test_nothing_but_the_command_line_s_error_is_raised(text: str) -> None:
    try:
        read = duration(text)
    except ArgumentTypeError:
        return
    assert read >= timedelta(0)


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def shown_on(out: StringIO, *, total: int, steps: list[int]) -> list[str]:
    """What is written, line by line; the bar writes over itself."""
    bar = Progress(
        OutputWrapper(out), count_left=lambda: total - steps[0], verb="Purging"
    )
    for done in steps:
        bar.show(done)
    bar.close()
    lines = out.getvalue().replace("\r", "\n").splitlines()
    return [line.rstrip() for line in lines]


def test_terminal_shows_a_bar_that_grows_and_ends_its_line() -> None:
    out = Terminal()

    assert shown_on(out, total=2_000, steps=[0, 1_000, 2_000]) == [
        "",
        "Purging [..............................]   0% 0",
        "Purging [###############...............]  50% 1,000",
        "Purging [##############################] 100% 2,000",
    ]
    assert out.getvalue().endswith("\n")


@pytest.mark.parametrize("total", [0, 1_000])
def test_bar_never_runs_over(total: int) -> None:
    shown = shown_on(Terminal(), total=total, steps=[0, 3_000])

    assert shown[-1] == "Purging [##############################] 100% 3,000"


def test_what_is_left_is_not_counted_before_it_is_shown() -> None:
    out = OutputWrapper(StringIO())
    bar = Progress(out, count_left=lambda: 1 // 0, verb="Purging")
    bar.show(1_000)
    bar.close()


def test_short_command_writes_nothing_into_a_log() -> None:
    assert shown_on(StringIO(), total=2_000, steps=[1_000, 2_000]) == []


def test_long_command_writes_lines_into_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)

    assert shown_on(StringIO(), total=2_000, steps=[1_000, 2_000]) == [
        "Purging 1,000 of 2,000",
        "Purging 2,000 of 2,000",
    ]
