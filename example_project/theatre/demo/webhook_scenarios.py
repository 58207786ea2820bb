"""What goes wrong while providers report, and what the shop must have done in the end.

The payments are made at one protected checkout for all: the webhook is what differs.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from .browsers import Answer, at_once
from .endpoints import DRF, NAIVE, VIEW
from .faults import DIE_AFTER_CHARGE, DIE_IN_HANDLER, FAIL_IN_HANDLER, only_for
from .providers import direct_debit_events, payment_event, stripe_event
from .scenarios import Play, Scenario, ScenarioNotPlayed

__all__ = ["WEBHOOK_SCENARIOS"]

COPIES = 20
#: The payment server waits for a second before it reports.
REPORT_SECONDS = 3

Answers = Sequence[Answer | None]

#: The leased checkout has the view's.
WEBHOOKS = (NAIVE, VIEW, DRF)


def same_event(play: Play) -> Answers:
    event = payment_event(_paid(play))
    path = play.endpoint.payments_webhook
    return play.provider.deliver_at_once(path, event, copies=COPIES)


def handler_fails(play: Play) -> Answers:
    event, path = payment_event(_paid(play)), play.endpoint.payments_webhook
    failed = play.provider.deliver(path, event, headers=FAIL_IN_HANDLER)
    return [failed, *play.provider.deliver_until_heard(path, event)]


def worker_killed(play: Play) -> Answers:
    event, path = payment_event(_paid(play)), play.endpoint.payments_webhook
    lost = play.provider.deliver(path, event, headers=DIE_IN_HANDLER)
    if lost is not None or play.handled():
        raise ScenarioNotPlayed("The worker was to die before it could commit.")
    return [lost, *play.provider.deliver_until_heard(path, event)]


def forged(play: Play) -> Answers:
    payment, path = _paid(play), play.endpoint.payments_webhook
    guessed = "whsec_guessed"
    forgery = play.provider.deliver(path, payment_event(payment), secret=guessed)
    genuine = play.provider.deliver_until_heard(path, payment_event(payment))
    return [forgery, *genuine]


def before_its_order(play: Play) -> Answers:
    path, cart, key = play.endpoint.payments_webhook, next(play.adas_carts), _new_key()
    before = play.ledger.now()
    VIEW.checkout(play.ada, cart, key, headers=DIE_AFTER_CHARGE)
    happened = play.ledger.now() - before
    if (happened.orders, happened.charges) != (0, 1):
        raise ScenarioNotPlayed("There was to be a payment, and no order yet.")
    event = payment_event(play.ledger.last_payment())
    early = play.provider.deliver(path, event)
    VIEW.checkout(play.ada, cart, key)  # the customer's retry, which makes the order
    return [early, *play.provider.deliver_until_heard(path, event)]


def two_endpoints(play: Play) -> Answers:
    """The payment server's own event, which it sends to one of the two by itself."""
    endpoint, provider = play.endpoint, play.provider
    event = stripe_event(play.ledger.event_about(_paid(play)))
    answers = provider.deliver_until_heard(endpoint.payments_webhook, event)
    play.wait_until_handled(2, seconds=REPORT_SECONDS)
    # A report that was lost is made good by this one; else it is a duplicate.
    answers += provider.deliver_until_heard(endpoint.bookkeeping_webhook, event)
    answers += provider.deliver_until_heard(endpoint.payments_webhook, event)
    play.wait_until_handled(2, seconds=REPORT_SECONDS)
    return answers


def bad_item(play: Play) -> Answers:
    path = play.endpoint.direct_debits_webhook
    batch = direct_debit_events(_payments(play, count=3))
    _, bad, _ = batch.event_ids
    fault = only_for(bad, FAIL_IN_HANDLER)
    failed = play.provider.deliver(path, batch, headers=fault)
    return [failed, *play.provider.deliver_until_heard(path, batch)]


WEBHOOK_SCENARIOS = (
    Scenario(
        name=f"same event {COPIES} times at once",
        play=same_event,
        handled=1,
        statuses=(200,),
        endpoints=WEBHOOKS,
    ),
    Scenario(
        name="handler fails once, then the redelivery",
        play=handler_fails,
        handled=1,
        statuses=(500, 200),
        distinct_answers=2,
        server_errors=1,
        endpoints=WEBHOOKS,
    ),
    Scenario(
        name="worker killed inside the handler",
        play=worker_killed,
        takes_whole_shop=True,
        handled=1,
        statuses=(200,),
        endpoints=WEBHOOKS,
    ),
    Scenario(
        name="forged signature",
        play=forged,
        handled=1,
        statuses=(401, 200),
        distinct_answers=2,
        endpoints=WEBHOOKS,
    ),
    Scenario(
        name="event before its order exists",
        play=before_its_order,
        takes_whole_shop=True,
        handled=1,
        statuses=(503, 200),
        distinct_answers=2,
        server_errors=1,
        endpoints=WEBHOOKS,
    ),
    Scenario(
        name="one id for two endpoints",
        play=two_endpoints,
        handled=2,
        statuses=(200,),
        endpoints=WEBHOOKS,
    ),
    Scenario(
        name="batch with one bad item",
        play=bad_item,
        orders=3,
        charges=3,
        handled=3,
        statuses=(500, 204),
        distinct_answers=2,
        server_errors=1,
        endpoints=WEBHOOKS,
    ),
)


def _paid(play: Play) -> str:
    """The provider's id of a payment whose order exists."""
    (payment,) = _payments(play, count=1)
    return payment


def _payments(play: Play, *, count: int) -> list[str]:
    carts = [next(play.adas_carts) for _ in range(count)]
    answers = at_once(
        [play.ada] * count, lambda tab: VIEW.checkout(tab, carts.pop(), _new_key())
    )
    paid = [each for each in answers if each is not None and each.status == 201]
    if len(paid) != count:
        raise ScenarioNotPlayed(f"The orders to report were not made: {answers}")
    return [play.ledger.payment_of(VIEW.order_in(answer)) for answer in paid]


def _new_key() -> str:
    return str(uuid.uuid4())
