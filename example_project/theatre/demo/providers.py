"""Payment providers that report: signed, and again until they are heard.

The payment server's own webhooks are real, signed and sent over HTTP, but only once.
What is missing is what makes webhooks hard: that a delivery comes again.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any, cast

import httpx

from django_idempotency.webhooks.providers import GOCARDLESS, STRIPE
from django_idempotency.webhooks.verifiers import HMACVerifier

from .browsers import Answer, Watch, unwatched
from .stage import WEBHOOK_SECRET

__all__ = [
    "Message",
    "Provider",
    "direct_debit_events",
    "payment_event",
    "stripe_event",
]

#: Providers repeat for hours and days, which the demo has not.
ATTEMPTS, FIRST_PAUSE_SECONDS = 5, 0.1
#: What the shop needs to take in many copies of one delivery.
READING_SECONDS = 0.2

_stripe = cast("HMACVerifier", STRIPE.verifier)
_gocardless = cast("HMACVerifier", GOCARDLESS.verifier)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What is delivered, each time with a signature of that moment."""

    event_ids: tuple[str, ...]
    body: bytes
    sign: Callable[[bytes, str], dict[str, str]]


def payment_event(payment: str) -> Message:
    """Stripe's report that a payment has succeeded, as an event of its own."""
    now = int(time.time())
    intent = {"id": payment, "object": "payment_intent", "status": "succeeded"}
    return stripe_event(
        {
            "id": f"evt_{uuid.uuid4().hex}",
            "object": "event",
            "type": "payment_intent.succeeded",
            "created": now,
            "livemode": False,
            "data": {"object": intent},
        }
    )


def stripe_event(event: Mapping[str, Any]) -> Message:
    """This event of Stripe's, to be delivered again."""
    body = json.dumps(event, indent=2, sort_keys=True).encode()
    return Message(event_ids=(event["id"],), body=body, sign=_sign_as_stripe)


def direct_debit_events(payments: Sequence[str]) -> Message:
    """GoCardless's report, in one delivery, that all these payments have succeeded."""
    events = [
        {
            "id": f"EV{uuid.uuid4().hex}",
            "created_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "resource_type": "payments",
            "action": "confirmed",
            "links": {"payment": payment},
        }
        for payment in payments
    ]
    return Message(
        event_ids=tuple(str(event["id"]) for event in events),
        body=json.dumps({"events": events}).encode(),
        sign=_sign_as_gocardless,
    )


class Provider:
    """Delivers to the shop, and knows what it has delivered."""

    def __init__(self, shop_url: str, watch: Watch = unwatched) -> None:
        self._watch = watch
        # No proxy for the outside world (trust_env) may stand between us and the shop.
        self._http = httpx.Client(base_url=shop_url, timeout=30, trust_env=False)
        self._address = httpx.URL(shop_url).netloc.decode()
        self.delivered: set[str] = set()

    def close(self) -> None:
        self._http.close()

    def deliver(
        self,
        path: str,
        message: Message,
        *,
        secret: str = WEBHOOK_SECRET,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Deliver once; ``None`` if no answer came back."""
        self.delivered.update(message.event_ids)
        answered = self._watch(path)
        answer = None
        with contextlib.suppress(httpx.TransportError):
            response = self._http.post(
                path,
                content=message.body,
                headers={**_headers(message, secret), **(headers or {})},
            )
            answer = Answer(response.status_code, response.content)
        answered(answer)
        return answer

    def deliver_until_heard(self, path: str, message: Message) -> list[Answer | None]:
        """Deliver until the shop says that it has it, with longer and longer pauses."""
        answers: list[Answer | None] = []
        for attempt in range(ATTEMPTS):
            answer = self.deliver(path, message)
            answers.append(answer)
            if answer is not None and 200 <= answer.status < 300:
                break
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
        return answers

    def deliver_at_once(
        self, path: str, message: Message, *, copies: int
    ) -> list[Answer | None]:
        """Deliver all the copies in the same instant.

        Each is at the shop but for its last byte when the last bytes are sent.
        """
        headers = _headers(message, WEBHOOK_SECRET)
        self.delivered.update(message.event_ids)
        with contextlib.ExitStack() as stack:
            connections = [
                HTTPConnection(self._address, timeout=30) for _ in range(copies)
            ]
            for connection in connections:
                stack.callback(connection.close)
                connection.request("POST", path, message.body[:-1], headers)
            time.sleep(READING_SECONDS)
            for connection in connections:
                connection.send(message.body[-1:])
            watchers = [self._watch(path) for _ in connections]
            answers = []
            for connection, answered in zip(connections, watchers, strict=True):
                answers.append(_answer_on(connection))
                answered(answers[-1])
            return answers


def _headers(message: Message, secret: str) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Content-Length": str(len(message.body)),
        **message.sign(message.body, secret),
    }


def _answer_on(connection: HTTPConnection) -> Answer | None:
    try:
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, HTTPException):
        return None


def _sign_as_stripe(body: bytes, secret: str) -> dict[str, str]:
    timestamp = str(int(time.time()))
    signature = _stripe.sign(secret, body, timestamp=timestamp)
    return {_stripe.header: f"t={timestamp},v1={signature}"}


def _sign_as_gocardless(body: bytes, secret: str) -> dict[str, str]:
    return {_gocardless.header: _gocardless.sign(secret, body)}
