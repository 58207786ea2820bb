"""kill -9 before and after every statement, COMMIT and outside call of every way in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.plans import ASGI, ENTRIES, WEBHOOKS, WORKER
from tests.faults.stage import Stage, set_up
from tests.faults.sweep import Case, Sweep, done_once, where

# They bring their own PostgreSQL.
pytestmark = [pytest.mark.concurrency, pytest.mark.timeout(300)]

ELSEWHERE = {"looked-up", "held"}
"""What a retry does about them is not to call: see tests/concurrency/leased."""

KEYED = [entry for entry in ENTRIES if entry not in WEBHOOKS | ASGI | ELSEWHERE]
HANDLING = ["inline", WORKER]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with set_up(one_by_one=True) as stage:
        yield stage


def before_its_end_is_committed(cases: list[Case]) -> list[str]:
    """From the outside call to the COMMIT behind it: whoever looks doesn't see it."""
    names = [(case.point.when, case.point.name) for case in cases]
    call = names.index(("after", "charge"))
    return [str(case) for case in cases[call : names.index(("after", "COMMIT"), call)]]


@pytest.mark.parametrize("entry", [*KEYED, *HANDLING])
def test_effect_is_there_once_wherever_its_process_is_killed(
    stage: Stage, entry: str
) -> None:
    cases = Sweep(stage, entry).run()

    assert len(cases) >= 12
    assert where(cases, lambda case: not done_once(case)) == []
    # By a provider that honours the derived key, and never where the end is known.
    assert where(cases, lambda case: case.asked > 1) == (
        before_its_end_is_committed(cases)
    )
    assert where(cases, lambda case: case.asked > 2) == []
    require_one_final_answer(entry, cases)


def require_one_final_answer(entry: str, cases: list[Case]) -> None:
    *others, last = cases
    assert (last.point.when, last.point.name) == ("after", "COMMIT")
    bodies = [{answer.body for answer in case.answers} for case in cases]
    if entry == WORKER:
        assert bodies == [{b"PROCESSED", b"NOTHING_DUE"}] * len(others) + [
            {b"NOTHING_DUE"}
        ]
        return
    assert [len(each) for each in bodies] == [1] * len(cases)
    if entry in WEBHOOKS:
        first = repeated = "200"
    elif "task" in entry:
        first = repeated = "201"
    else:
        first, repeated = "201", "201 replayed"
    assert where(others, lambda case: case.words != [first, repeated]) == []
    assert last.words == [repeated, repeated]


def test_stored_delivery_is_handled_once_wherever_its_process_is_killed(
    stage: Stage,
) -> None:
    cases = Sweep(stage, "inbox").run()

    assert len(cases) >= 2
    assert where(cases, lambda case: not done_once(case)) == []
    assert where(cases, lambda case: case.words != ["200", "200"]) == []


def test_unprotected_view_does_it_again(stage: Stage) -> None:
    """The negative control: these kills, and these retries, do harm."""
    cases = Sweep(stage, "unprotected").run()

    assert where(cases, lambda case: case.orders > 1)
    assert where(cases, lambda case: case.charges > 1)
