from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from django_idempotency.core.decisions import (
    Decision,
    Expired,
    Held,
    InFlight,
    Mismatch,
    RecordState,
    Renew,
    Replay,
    RowView,
    Unreadable,
    decide,
)
from django_idempotency.core.operations import ERASED
from tests.support.cases import cases
from tests.support.values import ANSWER, OPERATION, OTHER_PAYLOAD

SCOPE = str(OPERATION.scope)


def row(
    state: RecordState | str,
    *,
    same: bool = True,
    expired: bool = False,
    is_remembered: bool = False,
) -> RowView:
    fingerprint = OPERATION.fingerprint if same else OTHER_PAYLOAD
    return RowView(
        scope=SCOPE,
        key="k",
        fingerprint=fingerprint.sign(),
        state=state,
        expired=expired,
        is_remembered=is_remembered,
        answer=ANSWER if state == RecordState.KEPT else None,
    )


KEPT, RELEASED = RecordState.KEPT, RecordState.RELEASED
IN_FLIGHT, HELD = RecordState.IN_FLIGHT, RecordState.HELD
REPLAY = Replay(ANSWER)


@cases(
    "state, same, expired, decision",
    {
        "kept": (KEPT, True, False, REPLAY),
        "kept-other-payload": (KEPT, False, False, Mismatch()),
        "kept-expired": (KEPT, True, True, Renew(is_over=True)),
        "kept-expired-other": (KEPT, False, True, Renew(is_over=True)),
        "released": (RELEASED, True, False, Renew()),
        "released-other": (RELEASED, False, False, Mismatch()),
        "released-expired": (RELEASED, True, True, Renew(is_over=True)),
        "released-expired-other": (RELEASED, False, True, Renew(is_over=True)),
        # Committed in the middle of its work, by the work itself.
        "lost": (IN_FLIGHT, True, False, Held()),
        "lost-other-payload": (IN_FLIGHT, False, False, Held()),
        "lost-never-expires": (IN_FLIGHT, True, True, Held()),
        "lost-never-expires-other": (IN_FLIGHT, False, True, Held()),
        "held": (HELD, True, False, Held()),
        "held-other-payload": (HELD, False, False, Held()),
        "held-never-expires": (HELD, True, True, Held()),
        "held-never-expires-other": (HELD, False, True, Held()),
    },
)
def test_decision(
    state: RecordState, same: bool, expired: bool, decision: Decision
) -> None:
    assert decide(OPERATION, row(state, same=same, expired=expired), SCOPE) == decision


@cases(
    "state, same, expired, is_remembered, decision",
    {
        "before the purge": (KEPT, True, True, True, Expired()),
        "after it": (RecordState.EXPIRED, True, False, True, Expired()),
        "other payload": (KEPT, False, True, True, Mismatch()),
        "other payload, after the purge": (
            *(RecordState.EXPIRED, False, False, True),
            Mismatch(),
        ),
        "between two steps": (RELEASED, True, True, True, Expired()),
        "past both": (RecordState.EXPIRED, True, True, False, Renew(is_over=True)),
        "live": (KEPT, True, False, True, REPLAY),
        "held": (HELD, True, True, True, Held()),
        "lost": (IN_FLIGHT, True, True, True, Held()),
    },
)
def test_decision_about_what_is_remembered(
    state: RecordState,
    same: bool,
    expired: bool,
    is_remembered: bool,
    decision: Decision,
) -> None:
    found = row(state, same=same, expired=expired, is_remembered=is_remembered)
    assert decide(OPERATION, found, SCOPE) == decision


each_state = pytest.mark.parametrize("state", RecordState)
each_expiry = pytest.mark.parametrize(
    "expired", [True, False], ids=["expired", "fresh"]
)
each_payload = pytest.mark.parametrize("same", [True, False], ids=["same", "other"])


@each_state
@each_expiry
@each_payload
def test_what_was_erased_is_never_run_and_never_told(
    state: RecordState, expired: bool, same: bool
) -> None:
    erased = replace(row(state, same=same, expired=expired), scope=ERASED, key=ERASED)

    assert decide(OPERATION, erased, SCOPE) == Unreadable()


@each_state
@each_expiry
@each_payload
@pytest.mark.parametrize("left", [None, timedelta(seconds=30)])
@pytest.mark.parametrize(
    "other", [{"scope": "auth.User:2|POST|/orders/"}, {"key": "K"}]
)
def test_row_of_another_scope_or_key_is_never_answered(
    state: RecordState, expired: bool, same: bool, left: timedelta | None, other: Any
) -> None:
    stranger = replace(row(state, same=same, expired=expired), lease_left=left, **other)

    assert decide(OPERATION, stranger, SCOPE) == Mismatch()


@cases(
    "found",
    {
        "unreadable answer": replace(row(KEPT), answer=None),
        "state of a later release": row("settling"),
    },
)
def test_what_cannot_be_read_is_never_run_again(found: RowView) -> None:
    assert decide(OPERATION, found, SCOPE) == Unreadable()


def test_payload_is_compared_before_the_answer_is_looked_at() -> None:
    unreadable = replace(row(KEPT, same=False), answer=None)

    assert decide(OPERATION, unreadable, SCOPE) == Mismatch()


# Leases

ALIVE = timedelta(seconds=30)
OVER = timedelta(seconds=-1)


def leased_row(
    state: RecordState, left: timedelta, *, same: bool = True, expired: bool = False
) -> RowView:
    return replace(row(state, same=same, expired=expired), lease_left=left)


@each_state
@each_expiry
@each_payload
def test_live_lease_is_respected_whatever_else_the_row_says(
    state: RecordState, same: bool, expired: bool
) -> None:
    """FR-013, FR-016: the stored lease decides, whoever asks."""
    found = leased_row(state, ALIVE, same=same, expired=expired)

    assert decide(OPERATION, found, SCOPE) == InFlight(retry_after=ALIVE)


@pytest.mark.parametrize("lease", [None, timedelta(seconds=1), timedelta(hours=1)])
def test_lease_of_the_caller_is_not_asked(lease: timedelta | None) -> None:  # FR-016
    caller = replace(OPERATION, lease=lease)
    decisions = [
        decide(caller, leased_row(IN_FLIGHT, left), SCOPE) for left in (ALIVE, OVER)
    ]

    assert decisions == [InFlight(retry_after=ALIVE), Renew()]


@cases(
    "state, same, expired, decision",
    {
        "in-flight": (IN_FLIGHT, True, False, Renew()),
        "in-flight-other": (IN_FLIGHT, False, False, Mismatch()),
        "in-flight-expired": (IN_FLIGHT, True, True, Renew(is_over=True)),
        "in-flight-expired-other": (IN_FLIGHT, False, True, Renew(is_over=True)),
        "held": (HELD, True, False, Held()),
        "held-other-payload": (HELD, False, False, Held()),
        "held-never-expires": (HELD, True, True, Held()),
    },
)
def test_decision_when_the_lease_is_over(
    state: RecordState, same: bool, expired: bool, decision: Decision
) -> None:
    found = leased_row(state, OVER, same=same, expired=expired)

    assert decide(OPERATION, found, SCOPE) == decision


def test_lease_that_ends_just_now_is_over() -> None:
    assert decide(OPERATION, leased_row(IN_FLIGHT, timedelta(0)), SCOPE) == Renew()
