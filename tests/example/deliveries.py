"""Deliveries as Stripe and GoCardless make them, to the shop in this process."""

import json
from collections.abc import Sequence
from typing import Any

from django.test import Client

from tests.support import deliveries

SECRET = "whsec_new"  # noqa: S105 - signs nothing outside the tests
OLD_SECRET = "whsec_old"  # noqa: S105


def stripe_event(
    event_id: str,
    payment: str,
    *,
    status: str = "succeeded",
    created: int = 2_000,
) -> dict[str, Any]:
    return {
        "id": event_id,
        "type": f"payment_intent.{status}",
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


def deliver(path: str, event: dict[str, Any], *, secret: str = SECRET) -> Any:
    body = json.dumps(event).encode()
    return _deliver(path, deliveries.stripe_signed(body, secret=secret))


def deliver_batch(path: str, events: Sequence[dict[str, Any]]) -> Any:
    body = json.dumps({"events": events}).encode()
    return _deliver(path, deliveries.gocardless_signed(body, secret=SECRET))


def _deliver(path: str, sent: deliveries.Sent) -> Any:
    # CSRF is checked as in production: a provider has no cookie.
    return deliveries.deliver(path, sent, Client(enforce_csrf_checks=True))
