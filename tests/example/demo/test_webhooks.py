"""Webhooks over real HTTP: the payment server's own, and those that come again."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from example_project.demo.browsers import Browser
from example_project.demo.endpoints import VIEW
from example_project.demo.ledger import Ledger
from example_project.demo.providers import (
    Message,
    Provider,
    direct_debit_events,
    payment_event,
    stripe_event,
)
from example_project.demo.stage import Stage

pytestmark = pytest.mark.demo


@pytest.fixture
def provider(stage: Stage) -> Iterator[Provider]:
    with closing(Provider(stage.shop_url)) as provider:
        yield provider


@pytest.fixture(scope="session")
def pay(stage: Stage, ada: Browser) -> Callable[[Ledger], str]:
    """Pay for a cart; returns the payment server's id of the payment."""
    carts = iter(stage.customers[0].carts)

    def pay(ledger: Ledger) -> str:
        answer = VIEW.checkout(ada, next(carts), str(uuid.uuid4()))
        assert answer is not None
        return ledger.payment_of(VIEW.order_in(answer))

    return pay


Pay = Callable[[Ledger], str]


def test_payment_server_reports_by_itself(
    pay: Pay, ledger: Ledger, provider: Provider
) -> None:
    event = ledger.event_about(pay(ledger))

    wait_until_handled(ledger, event["id"])

    # The same once more, as after an answer that got lost, is a duplicate.
    (again,) = provider.deliver_until_heard(
        VIEW.bookkeeping_webhook, stripe_event(event)
    )
    assert again is not None
    assert again.status == 200
    assert ledger.handled([event["id"]], endpoint="bookkeeping") == 1


def test_provider_comes_again_until_it_is_heard(
    pay: Pay, ledger: Ledger, provider: Provider
) -> None:
    event = payment_event("pi_of_nobody")

    answers = provider.deliver_until_heard(VIEW.payments_webhook, event)

    assert [answer and answer.status for answer in answers] == [503] * 5
    assert ledger.handled(provider.delivered, endpoint=None) == 0


@pytest.mark.parametrize("kind", ["card", "direct debit"])
def test_copies_in_one_instant_are_handled_once(
    kind: str, pay: Pay, ledger: Ledger, provider: Provider
) -> None:
    messages: dict[str, tuple[str, Message]] = {
        "card": (VIEW.payments_webhook, payment_event(pay(ledger))),
        "direct debit": (
            VIEW.direct_debits_webhook,
            direct_debit_events([pay(ledger), pay(ledger)]),
        ),
    }
    path, message = messages[kind]

    answers = provider.deliver_at_once(path, message, copies=20)

    assert {answer and answer.status for answer in answers} <= {200, 204}
    handled = ledger.handled(provider.delivered, endpoint=None)
    assert handled == len(message.event_ids)


def wait_until_handled(ledger: Ledger, event_id: str) -> None:
    end = time.monotonic() + 30
    while not ledger.handled([event_id], endpoint="bookkeeping"):
        assert time.monotonic() < end
        time.sleep(0.05)
