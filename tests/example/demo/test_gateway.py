"""The gateway with Stripe's own client in front and localstripe behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import stripe

from example_project.demo.ledger import Books, Ledger
from example_project.demo.stage import API_KEY, Stage

pytestmark = pytest.mark.demo

GOOD_CARD = "pm_card_visa"
DECLINED_CARD = "pm_card_chargeCustomerFail"


@pytest.fixture
def pay(stage: Stage) -> Callable[..., stripe.PaymentIntent]:
    def pay(
        *,
        key: str | None,
        amount: int = 1000,
        card: str = GOOD_CARD,
        api_key: str = API_KEY,
    ) -> stripe.PaymentIntent:
        return client(stage, api_key).v1.payment_intents.create(
            params={
                "amount": amount,
                "currency": "eur",
                "payment_method": card,
                "confirm": True,
                "automatic_payment_methods": {
                    "enabled": True,
                    "allow_redirects": "never",
                },
            },
            options={} if key is None else {"idempotency_key": key},
        )

    return pay


Pay = Callable[..., stripe.PaymentIntent]


def client(stage: Stage, api_key: str = API_KEY) -> stripe.StripeClient:
    return stripe.StripeClient(
        api_key, base_addresses={"api": stage.gateway_url}, max_network_retries=0
    )


def test_repeat_is_one_charge_and_one_answer(pay: Pay, ledger: Ledger) -> None:
    key, before = new_key(), ledger.now()

    first, second = pay(key=key), pay(key=key)

    assert first.status == "succeeded"
    assert second.to_dict() == first.to_dict()
    assert second.last_response is not None
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert ledger.now() - before == books(charges=1, charged_minor=1000)


def test_twenty_copies_at_once_are_one_charge(pay: Pay, ledger: Ledger) -> None:
    key, before = new_key(), ledger.now()

    with ThreadPoolExecutor(20) as pool:
        intents = list(pool.map(lambda _: pay(key=key), range(20)))

    assert len({intent.id for intent in intents}) == 1
    assert ledger.now() - before == books(charges=1, charged_minor=1000)


def test_keys_are_not_needed(pay: Pay, ledger: Ledger) -> None:
    before = ledger.now()

    pay(key=None), pay(key=None)

    assert ledger.now() - before == books(charges=2, charged_minor=2000)


def test_other_parameters_with_one_key_are_refused(pay: Pay, ledger: Ledger) -> None:
    key, before = new_key(), ledger.now()
    pay(key=key)

    with pytest.raises(stripe.IdempotencyError) as refused:
        pay(key=key, amount=2000)

    assert refused.value.http_status == 400
    assert ledger.now() - before == books(charges=1, charged_minor=1000)


def test_accounts_do_not_share_keys(pay: Pay, ledger: Ledger) -> None:
    key, before = new_key(), ledger.now()

    intents = [pay(key=key), pay(key=key, api_key="sk_test_another")]

    assert intents[0].id != intents[1].id
    assert ledger.now() - before == books(charges=2, charged_minor=2000)


def test_declined_card_is_asked_once(pay: Pay, ledger: Ledger) -> None:
    key, before = new_key(), ledger.now()

    for _ in range(2):
        with pytest.raises(stripe.CardError) as declined:
            pay(key=key, card=DECLINED_CARD)
        assert declined.value.code == "card_declined"

    assert ledger.now() - before == books(declines=1)


def test_refused_parameters_are_no_outcome(pay: Pay) -> None:
    key = new_key()

    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            pay(key=key, card="pm_unknown")
        assert "Idempotent-Replayed" not in (refused.value.headers or {})


def test_caller_without_api_key_is_refused(stage: Stage, pay: Pay) -> None:
    with pytest.raises(stripe.AuthenticationError):
        pay(key=new_key(), api_key="nobody")


def test_repeated_refund_is_one_refund(stage: Stage, pay: Pay, ledger: Ledger) -> None:
    intent, key, before = pay(key=new_key()), new_key(), ledger.now()

    refunds = [
        client(stage).v1.refunds.create(
            params={"payment_intent": intent.id}, options={"idempotency_key": key}
        )
        for _ in range(2)
    ]

    assert refunds[0].id == refunds[1].id
    assert ledger.now() - before == books(refunds=1)


def test_payment_can_be_looked_at(stage: Stage, pay: Pay) -> None:
    intent = pay(key=new_key())

    assert client(stage).v1.payment_intents.retrieve(intent.id).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        client(stage).v1.payment_intents.retrieve("pi_unknown")


def new_key() -> str:
    return str(uuid.uuid4())


def books(**counts: int) -> Books:
    nothing = dict.fromkeys(
        ("orders", "charges", "charged_minor", "declines", "refunds", "mails"), 0
    )
    return Books(**{**nothing, **counts})
