"""Deliveries as Stripe and GoCardless make them, to the shop in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from django.test import Client

from django_idempotency.webhooks.providers import GOCARDLESS, STRIPE
from django_idempotency.webhooks.verifiers import HMACVerifier

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as Answer

SECRET = "whsec_new"  # noqa: S105 - signs nothing outside the tests
OLD_SECRET = "whsec_old"  # noqa: S105


def stripe_event(
    event_id: str,
    payment: str,
    *,
    status: str = "succeeded",
    created: int = 2_000,
    event_type: str | None = None,
) -> dict[str, Any]:
    return {
        "id": event_id,
        "type": event_type or f"payment_intent.{status}",
        "created": created,
        "livemode": False,
        "data": {"object": {"id": payment, "status": status, "amount": 2500}},
    }


def direct_debit(event_id: str, payment: str) -> dict[str, Any]:
    return {
        "id": event_id,
        "created_at": "2026-11-25T10:00:00.000Z",
        "resource_type": "payments",
        "action": "confirmed",
        "links": {"payment": payment},
    }


def deliver(path: str, event: dict[str, Any], *, secret: str = SECRET) -> Answer:
    body, timestamp = json.dumps(event).encode(), str(int(time.time()))
    verifier = cast("HMACVerifier", STRIPE.verifier)
    signature = verifier.sign(secret, body, timestamp=timestamp)
    return _post(path, body, {verifier.header: f"t={timestamp},v1={signature}"})


def deliver_batch(path: str, events: Sequence[dict[str, Any]]) -> Answer:
    body = json.dumps({"events": events}).encode()
    verifier = cast("HMACVerifier", GOCARDLESS.verifier)
    return _post(path, body, {verifier.header: verifier.sign(SECRET, body)})


def _post(path: str, body: bytes, headers: dict[str, str]) -> Answer:
    # CSRF is checked as in production: a provider has no cookie.
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    return client.post(path, body, content_type="application/json", headers=headers)
