"""Runs: one at a time, and all that happens in them for whoever looks."""

import threading

import pytest

from example_project.theatre.lab.runs import REMEMBERED, Laboratory, Run

PATIENCE_SECONDS = 30


def until_over(run: Run) -> None:
    seen = 0
    while not run.is_over:
        seen += len(run.after(seen, patience_seconds=PATIENCE_SECONDS))


def test_events_come_in_order_to_everybody_who_looks() -> None:
    def play(run: Run) -> None:
        for number in range(3):
            run.tell({"number": number})

    run = Run("storm")
    Laboratory(play).start(run)
    until_over(run)

    events = [{"number": 0}, {"number": 1}, {"number": 2}]
    assert run.after(0, patience_seconds=0) == events
    assert run.after(2, patience_seconds=0) == events[2:]
    assert run.after(3, patience_seconds=0) == []


def test_who_looks_waits_no_longer_than_its_patience() -> None:
    assert Run("storm").after(0, patience_seconds=0.01) == []


def test_second_run_is_not_played_while_the_first_is() -> None:
    end, played = threading.Event(), []

    def play(run: Run) -> None:
        played.append(run.id)
        assert end.wait(PATIENCE_SECONDS)

    laboratory, first, second = Laboratory(play), Run("storm"), Run("storm")
    laboratory.start(first)
    assert laboratory.underway() is first
    laboratory.start(second)
    end.set()
    until_over(first)

    assert second.is_over
    (told,) = second.after(0, patience_seconds=0)
    assert told["kind"] == "error"
    assert played == [first.id]


def test_next_run_is_played_after_one_that_broke(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def play(run: Run) -> None:
        if run is first:
            raise RuntimeError
        run.tell({"kind": "end"})

    laboratory, first, second = Laboratory(play), Run("storm"), Run("storm")
    laboratory.start(first)
    until_over(first)
    laboratory.start(second)
    until_over(second)

    (told,) = first.after(0, patience_seconds=0)
    assert told["kind"] == "error"
    assert "could not play storm" in caplog.text
    assert second.after(0, patience_seconds=0) == [{"kind": "end"}]
    assert laboratory.underway() is None


def test_old_runs_are_forgotten() -> None:
    laboratory = Laboratory(lambda run: None)
    runs = [Run("storm") for _ in range(REMEMBERED + 2)]
    for run in runs:
        laboratory.start(run)
        until_over(run)

    assert laboratory.find(runs[0].id) is None
    assert laboratory.find(runs[1].id) is runs[1]
