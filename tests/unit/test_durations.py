from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.management.durations import duration


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("90s", timedelta(seconds=90), id="seconds"),
        pytest.param("5m", timedelta(minutes=5), id="minutes"),
        pytest.param("36h", timedelta(hours=36), id="hours"),
        pytest.param("7d", timedelta(days=7), id="days"),
        pytest.param("2w", timedelta(weeks=2), id="weeks"),
        pytest.param("1d12h", timedelta(days=1, hours=12), id="sum"),
        pytest.param("12h1d", timedelta(days=1, hours=12), id="any-order"),
        pytest.param("1h1h", timedelta(hours=2), id="unit-twice"),
        pytest.param("0s", timedelta(0), id="nothing"),
    ],
)
def test_duration_is_read(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "d",
        "7 d",
        " 7d",
        "7d\n",
        "-7d",
        "+7d",
        "7D",
        "1.5h",
        "7d12",
        "7y",
        "1e3s",
    ],
    ids=repr,
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="is no duration"):
        duration(text)


@pytest.mark.parametrize("text", ["9999999999d", "9" * 5_000 + "s"], ids=len)
def test_too_long_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match="longer than time goes"):
        duration(text)


@given(st.lists(st.tuples(st.integers(0, 1_000), st.sampled_from("smhdw")), min_size=1))
def test_parts_add_up(parts: list[tuple[int, str]]) -> None:
    together = duration("".join(f"{number}{unit}" for number, unit in parts))

    assert together == sum(
        (duration(f"{number}{unit}") for number, unit in parts), timedelta(0)
    )


@given(st.text() | st.text("0123456789smhdw", max_size=40))
def test_nothing_but_the_command_line_s_error_is_raised(text: str) -> None:
    try:
        read = duration(text)
    except ArgumentTypeError:
        return
    assert read >= timedelta(0)
