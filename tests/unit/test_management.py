from __future__ import annotations

from io import StringIO

import pytest

from django_idempotency.management import progress
from django_idempotency.management.progress import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def shown_on(out: StringIO, *, total: int, steps: list[int]) -> list[str]:
    """What is written, line by line; the bar writes over itself."""
    bar = Progress(out, count_left=lambda: total - steps[0], verb="Purging")
    for done in steps:
        bar.show(done)
    bar.close()
    return out.getvalue().replace("\r", "\n").splitlines()


def test_terminal_shows_a_bar_that_grows() -> None:
    assert shown_on(Terminal(), total=2_000, steps=[0, 1_000, 2_000]) == [
        "",
        "Purging [..............................]   0% 0",
        "Purging [###############...............]  50% 1,000",
        "Purging [##############################] 100% 2,000",
    ]


@pytest.mark.parametrize("total", [0, 1_000])
def test_bar_never_runs_over(total: int) -> None:
    shown = shown_on(Terminal(), total=total, steps=[0, 3_000])

    assert shown[-1] == "Purging [##############################] 100% 3,000"


def test_what_is_left_is_not_counted_before_it_is_shown() -> None:
    bar = Progress(StringIO(), count_left=lambda: 1 // 0, verb="Purging")
    bar.show(1_000)
    bar.close()


def test_closing_the_bar_ends_its_line() -> None:
    out = Terminal()
    shown_on(out, total=1, steps=[1])

    assert out.getvalue().endswith("\n")


def test_short_command_writes_nothing_into_a_log() -> None:
    assert shown_on(StringIO(), total=2_000, steps=[1_000, 2_000]) == []


def test_long_command_writes_lines_into_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)

    assert shown_on(StringIO(), total=2_000, steps=[1_000, 2_000]) == [
        "Purging 1,000 of 2,000",
        "Purging 2,000 of 2,000",
    ]
