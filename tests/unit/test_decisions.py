from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta

import pytest

from django_idempotency.decisions import (
    Decision,
    Held,
    InFlight,
    Mismatch,
    Renew,
    Replay,
    RowView,
    State,
    Unreadable,
    decide,
)
from django_idempotency.fingerprints import fingerprint_of
from django_idempotency.operations import Operation, Scope, StoredAnswer

SCOPE = "auth.User:1|POST|/orders/"
ANSWER = StoredAnswer(status=201, headers=(), body=b"{}")
OPERATION = Operation(
    scope=Scope(principal="auth.User:1", method="POST", path="/orders/"),
    key="k",
    fingerprint=fingerprint_of(b"payload"),
    wait=timedelta(0),
    retention=timedelta(1),
)
OTHER_PAYLOAD = fingerprint_of(b"other")


def row(state: State | str, *, same: bool = True, expired: bool = False) -> RowView:
    fingerprint = OPERATION.fingerprint if same else OTHER_PAYLOAD
    return RowView(
        scope=SCOPE,
        key="k",
        fingerprint=fingerprint.sign(),
        state=state,
        expired=expired,
        answer=ANSWER if state == State.KEPT else None,
    )


@pytest.mark.parametrize(
    ("state", "same", "expired", "decision"),
    [
        pytest.param(State.KEPT, True, False, Replay(ANSWER), id="kept"),
        pytest.param(State.KEPT, False, False, Mismatch(), id="kept-other-payload"),
        pytest.param(State.KEPT, True, True, Renew(), id="kept-expired"),
        pytest.param(State.KEPT, False, True, Renew(), id="kept-expired-other"),
        pytest.param(State.RELEASED, True, False, Renew(), id="released"),
        pytest.param(State.RELEASED, False, False, Mismatch(), id="released-other"),
        pytest.param(State.RELEASED, True, True, Renew(), id="released-expired"),
        pytest.param(State.RELEASED, False, True, Renew(), id="released-expired-other"),
        pytest.param(State.IN_FLIGHT, True, False, InFlight(), id="in-flight"),
        pytest.param(State.IN_FLIGHT, False, False, InFlight(), id="in-flight-other"),
        pytest.param(State.IN_FLIGHT, True, True, Renew(), id="in-flight-expired"),
        pytest.param(State.IN_FLIGHT, False, True, Renew(), id="in-flight-exp-other"),
        pytest.param(State.HELD, True, False, Held(), id="held"),
        pytest.param(State.HELD, False, False, Held(), id="held-other-payload"),
        pytest.param(State.HELD, True, True, Held(), id="held-never-expires"),
        pytest.param(State.HELD, False, True, Held(), id="held-never-expires-other"),
    ],
)
def test_decision(state: State, same: bool, expired: bool, decision: Decision) -> None:
    assert decide(OPERATION, row(state, same=same, expired=expired), SCOPE) == decision


EVERY_ROW = [
    pytest.param(row(state, same=same, expired=expired), id=f"{state}-{same}-{expired}")
    for state, same, expired in itertools.product(State, [True, False], [True, False])
]


@pytest.mark.parametrize("found", EVERY_ROW)
@pytest.mark.parametrize(
    "differing",
    [
        pytest.param({"scope": "auth.User:2|POST|/orders/"}, id="scope"),
        pytest.param({"key": "K"}, id="key"),
    ],
)
def test_row_of_another_scope_or_key_is_never_answered(
    found: RowView, differing: dict[str, str]
) -> None:
    stranger = RowView(
        scope=differing.get("scope", found.scope),
        key=differing.get("key", found.key),
        fingerprint=found.fingerprint,
        state=found.state,
        expired=found.expired,
        answer=found.answer,
    )

    assert decide(OPERATION, stranger, SCOPE) == Mismatch()


def test_kept_answer_that_cannot_be_read_is_never_run_again() -> None:
    unreadable = replace(row(State.KEPT), answer=None)

    assert decide(OPERATION, unreadable, SCOPE) == Unreadable()


def test_payload_is_compared_before_the_answer_is_looked_at() -> None:
    unreadable = replace(row(State.KEPT, same=False), answer=None)

    assert decide(OPERATION, unreadable, SCOPE) == Mismatch()


def test_state_of_a_later_release_is_never_run_again() -> None:
    assert decide(OPERATION, row("settling"), SCOPE) == Unreadable()


# Leases

ALIVE = timedelta(seconds=30)
OVER = timedelta(seconds=-1)


def leased_row(
    state: State, left: timedelta, *, same: bool = True, expired: bool = False
) -> RowView:
    return replace(row(state, same=same, expired=expired), lease_left=left)


@pytest.mark.parametrize("expired", [True, False], ids=["expired", "fresh"])
@pytest.mark.parametrize("same", [True, False], ids=["same", "other-payload"])
@pytest.mark.parametrize("state", State)
def test_live_lease_is_respected_whatever_else_the_row_says(
    state: State, same: bool, expired: bool
) -> None:
    """FR-013, FR-016: the stored lease decides, whoever asks."""
    found = leased_row(state, ALIVE, same=same, expired=expired)

    assert decide(OPERATION, found, SCOPE) == InFlight(retry_after=ALIVE)


@pytest.mark.parametrize("lease", [None, timedelta(seconds=1), timedelta(hours=1)])
def test_lease_of_the_caller_is_not_asked(lease: timedelta | None) -> None:
    """FR-016."""
    caller = replace(OPERATION, lease=lease)
    decisions = [
        decide(caller, leased_row(State.IN_FLIGHT, left), SCOPE)
        for left in (ALIVE, OVER)
    ]

    assert decisions == [InFlight(retry_after=ALIVE), Renew()]


@pytest.mark.parametrize(
    ("state", "same", "expired", "decision"),
    [
        pytest.param(State.IN_FLIGHT, True, False, Renew(), id="in-flight"),
        pytest.param(State.IN_FLIGHT, False, False, Mismatch(), id="in-flight-other"),
        pytest.param(State.IN_FLIGHT, True, True, Renew(), id="in-flight-expired"),
        pytest.param(State.IN_FLIGHT, False, True, Renew(), id="in-flight-exp-other"),
        pytest.param(State.HELD, True, False, Held(), id="held"),
        pytest.param(State.HELD, False, False, Held(), id="held-other-payload"),
        pytest.param(State.HELD, True, True, Held(), id="held-never-expires"),
    ],
)
def test_decision_when_the_lease_is_over(
    state: State, same: bool, expired: bool, decision: Decision
) -> None:
    found = leased_row(state, OVER, same=same, expired=expired)

    assert decide(OPERATION, found, SCOPE) == decision


def test_lease_that_ends_just_now_is_over() -> None:
    found = leased_row(State.IN_FLIGHT, timedelta(0))

    assert decide(OPERATION, found, SCOPE) == Renew()


@pytest.mark.parametrize("state", State)
def test_live_lease_of_another_scope_is_none_of_ours(state: State) -> None:
    stranger = replace(leased_row(state, ALIVE), scope="auth.User:2|POST|/orders/")

    assert decide(OPERATION, stranger, SCOPE) == Mismatch()
