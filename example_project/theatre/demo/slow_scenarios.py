"""What goes wrong while a payment takes seconds, and after the order is made.

Each is played by a customer of its own at the shop with the slow provider, at the same
time as others.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .browsers import Answer, Browser, at_once
from .endpoints import LEASED, NAIVE
from .faults import (
    DIE_AFTER_CHARGE,
    DIE_AFTER_ORDER,
    DIE_BEFORE_CHARGE,
    DIE_IN_CHARGE,
    LOSE_ANSWER,
    MAIL_SERVER_DOWN,
    WITHOUT_KEYS,
)
from .scenarios import Play, Scenario, ScenarioNotPlayed

__all__ = ["SLOW_SCENARIOS"]

Answers = list[Answer | None]


class Payment(NamedTuple):
    """What a customer sends, and sends again."""

    cart: int
    key: str


def killed_at_each_step(play: Play) -> Answers:
    faults = (DIE_BEFORE_CHARGE, DIE_IN_CHARGE, DIE_AFTER_CHARGE, DIE_AFTER_ORDER)
    payments = _new_payments(play, len(faults))
    before = play.ledger.now()
    lost = _pay(play, payments, faults)
    happened = play.ledger.now() - before
    if any(lost) or (happened.charges, happened.orders, happened.mails) != (3, 1, 0):
        raise ScenarioNotPlayed(
            "A worker was to die before the charge, inside it, after it and after the "
            f"order; they left {happened.charges} charges and {happened.orders} orders."
        )
    return lost + _pay(play, payments) + _pay(play, payments)


def answer_lost(play: Play) -> Answers:
    payments = _new_payments(play, 1)
    before = play.ledger.now()
    unknown = _pay(play, payments, [LOSE_ANSWER])
    _require_charge_only(play, before.charges)
    return unknown + _pay(play, payments) + _pay(play, payments)


def held(play: Play) -> Answers:
    """Two calls of unknown outcome: one has charged, and one was never sent."""
    charged, not_charged = payments = _new_payments(play, 2)
    before = play.ledger.now()
    faults = ({**LOSE_ANSWER, **WITHOUT_KEYS}, {**DIE_BEFORE_CHARGE, **WITHOUT_KEYS})
    unknown = _pay(play, payments, faults)
    _require_charge_only(play, before.charges)
    found = f'--applied="{play.ledger.last_payment()}"'
    retried = _pay(play, payments, [WITHOUT_KEYS] * 2)
    # Here a person compares with the payment server's list.
    outcomes = {charged: found, not_charged: "--not-applied"}
    play.manage(
        [
            ["settle_idempotency_key", *record, outcome, "--reason=seen in its list"]
            for payment, outcome in outcomes.items()
            if (record := play.ledger.held_record(payment.key)) is not None
        ]
    )
    return unknown + retried + _pay(play, payments, [WITHOUT_KEYS] * 2)


def mail_task_twice(play: Play) -> Answers:
    payments = _new_payments(play, 1)
    before = play.ledger.now()
    answers = _pay(play, payments, [MAIL_SERVER_DOWN])
    happened = play.ledger.now() - before
    if (happened.orders, happened.mails) != (1, 0):
        raise ScenarioNotPlayed("There was to be an order, and no mail yet.")
    deliver = ["deliver_receipt", play.endpoint.receipt_task]
    deliver.append(str(play.ledger.last_order()))
    if play.unprotected:
        deliver.append("--unprotected")
    play.manage([deliver] * 2)
    return answers + _pay(play, payments)


SLOW_SCENARIOS = (
    Scenario(
        name="slow provider, worker killed at each step",
        play=killed_at_each_step,
        orders=4,
        charges=4,
        distinct_answers=4,
        endpoints=(NAIVE, LEASED),
    ),
    Scenario(
        name="slow provider, its answer lost",
        play=answer_lost,
        statuses=(503, 201),
        distinct_answers=2,
        server_errors=1,
        endpoints=(NAIVE, LEASED),
    ),
    Scenario(
        name="provider without keys: held, then settled",
        play=held,
        orders=2,
        charges=2,
        statuses=(503, 409, 201),
        distinct_answers=5,
        server_errors=1,
        endpoints=(NAIVE, LEASED),
    ),
    Scenario(
        name="mail server down, then the mail task twice",
        play=mail_task_twice,
        endpoints=(NAIVE, LEASED),
    ),
)


def _new_payments(play: Play, count: int) -> list[Payment]:
    return [Payment(next(play.adas_carts), str(uuid.uuid4())) for _ in range(count)]


def _pay(
    play: Play,
    payments: Sequence[Payment],
    faults: Sequence[Mapping[str, str]] | None = None,
) -> Answers:
    """Send all the payments in the same instant, each with its fault."""
    jobs = list(zip(payments, faults or [{}] * len(payments), strict=True))

    def send(tab: Browser) -> Answer | None:
        payment, fault = jobs.pop()
        return play.endpoint.checkout(tab, payment.cart, payment.key, headers=fault)

    return at_once([play.ada] * len(payments), send)


def _require_charge_only(play: Play, charges_before: int) -> None:
    """Check that one charge was made, of which the shop knows nothing.

    Raises:
        ScenarioNotPlayed
    """
    now = play.ledger.now()
    if (now.charges - charges_before, now.orders) != (1, 0):
        raise ScenarioNotPlayed("There was to be one charge, and no order yet.")
