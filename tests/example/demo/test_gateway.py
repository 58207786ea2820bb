"""The gateway with Stripe's own client in front and localstripe behind.

The demo plays declined cards and refunds.
"""

import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
import stripe
from django.test import Client, override_settings

from example_project.theatre.demo.browsers import Browser
from example_project.theatre.demo.endpoints import VIEW
from example_project.theatre.demo.ledger import Books, Ledger
from example_project.theatre.demo.providers import Provider, stripe_event
from example_project.theatre.demo.stage import API_KEY, Stage
from example_project.theatre.gateway import backend
from tests.support.servers import free_port
from tests.support.threads import until

GOOD_CARD = "pm_card_visa"
in_this_process = pytest.mark.urls("example_project.theatre.gateway.urls")
Pay = Callable[..., stripe.PaymentIntent]


@pytest.fixture
def pay(stage: Stage) -> Pay:
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


def client(stage: Stage, api_key: str = API_KEY) -> stripe.StripeClient:
    return stripe.StripeClient(
        api_key, base_addresses={"api": stage.gateway_url}, max_network_retries=0
    )


def test_copies_at_once_and_a_repeat_are_one_charge_and_one_answer(
    pay: Pay, ledger: Ledger
) -> None:
    key, before = new_key(), ledger.now()

    with ThreadPoolExecutor(20) as pool:
        first, *others = pool.map(lambda _: pay(key=key), range(20))
    again = pay(key=key)

    assert first.status == "succeeded"
    assert all(each.to_dict() == first.to_dict() for each in (*others, again))
    assert again.last_response is not None
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert ledger.now() - before == books(charges=1, charged_minor=1000)


def test_other_parameters_with_one_key_are_refused(pay: Pay, ledger: Ledger) -> None:
    key, before = new_key(), ledger.now()
    pay(key=key)

    with pytest.raises(stripe.IdempotencyError) as refused:
        pay(key=key, amount=2000)

    assert refused.value.http_status == 400
    assert ledger.now() - before == books(charges=1, charged_minor=1000)


def test_no_key_and_the_key_of_another_account_are_charges_of_their_own(
    pay: Pay, ledger: Ledger
) -> None:
    key, before = new_key(), ledger.now()

    intents = [
        *(pay(key=None) for _ in range(2)),
        *(pay(key=key, api_key=each) for each in (API_KEY, "sk_test_another")),
    ]

    assert len({each.id for each in intents}) == 4
    assert ledger.now() - before == books(charges=4, charged_minor=4000)


def test_refused_parameters_are_no_outcome(pay: Pay) -> None:
    key = new_key()

    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            pay(key=key, card="pm_unknown")
        assert "Idempotent-Replayed" not in (refused.value.headers or {})
    with pytest.raises(stripe.AuthenticationError):
        pay(key=key, api_key="nobody")


def test_payment_can_be_looked_at(stage: Stage, pay: Pay) -> None:
    intents = client(stage).v1.payment_intents
    paid = pay(key=new_key())

    assert intents.retrieve(paid.id).status == "succeeded"
    with pytest.raises(stripe.InvalidRequestError):
        intents.retrieve("pi_unknown")


def test_payment_server_reports_by_itself(
    stage: Stage, ada: Browser, ledger: Ledger
) -> None:
    """By its own webhooks; the demo itself plays those that come again."""
    paid = VIEW.checkout(ada, stage.customers[0].carts[0], str(uuid.uuid4()))
    assert paid is not None
    event = ledger.event_about(ledger.payment_of(VIEW.order_in(paid)))
    handled = [event["id"]]

    until(lambda: ledger.handled(handled, endpoint="bookkeeping") == 1)

    # The same once more, as after an answer that got lost, is a duplicate.
    with closing(Provider(stage.shop_url)) as provider:
        (again,) = provider.deliver_until_heard(
            VIEW.bookkeeping_webhook, stripe_event(event)
        )
    assert again is not None
    assert again.status == 200
    assert ledger.handled(handled, endpoint="bookkeeping") == 1


# What it keeps when the server behind it fails


@in_this_process
def test_backend_out_of_reach_leaves_the_key_free(db: None) -> None:
    key = new_key()

    with gateway_before(free_port()):
        answers = [post(key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [503, 503]
    assert all("Idempotent-Replayed" not in answer.headers for answer in answers)
    assert all("Stripe-Should-Retry" not in answer.headers for answer in answers)


@in_this_process
def test_lost_answer_is_never_asked_for_again(db: None) -> None:
    key = new_key()

    with silent_server() as (port, taken), gateway_before(port):
        answers = [post(key) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [504, 504]
    assert answers[1].headers["Idempotent-Replayed"] == "true"
    assert [each.headers["Stripe-Should-Retry"] for each in answers] == ["false"] * 2
    assert len(taken) == 1


@in_this_process
def test_errors_are_those_of_stripe(db: None) -> None:
    with gateway_before(free_port()):
        answer = post("not acceptable, because of its comma")

    assert answer.status_code == 400
    assert json.loads(answer.content)["error"]["type"] == "idempotency_error"


def post(key: str) -> Any:
    return Client().post(
        "/v1/payment_intents",
        {"amount": "1000"},
        headers={"Authorization": "Bearer sk_test_x", "Idempotency-Key": key},
    )


@contextmanager
def gateway_before(port: int) -> Iterator[None]:
    backend._client.cache_clear()
    with override_settings(
        GATEWAY_BACKEND_URL=f"http://127.0.0.1:{port}",
        GATEWAY_LATENCY=timedelta(0),
        IDEMPOTENCY_PRINCIPAL="example_project.theatre.gateway.api_keys.principal",
        IDEMPOTENCY_PROFILE="stripe",
    ):
        yield
        backend._client().close()
    backend._client.cache_clear()


@contextmanager
def silent_server() -> Iterator[tuple[int, list[bytes]]]:
    """Takes requests and hangs up; its port, and what it was sent."""
    taken: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with closing(connection):
                    taken.extend(filter(None, [connection.recv(65536)]))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1], taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def new_key() -> str:
    return str(uuid.uuid4())


def books(**counts: int) -> Books:
    nothing = dict.fromkeys(
        ("orders", "charges", "charged_minor", "declines", "refunds", "mails"), 0
    )
    return Books(**{**nothing, **counts})
