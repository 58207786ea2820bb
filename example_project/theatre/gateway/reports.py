"""What the gateway reports to the shops: signed events, which name the call's key.

localstripe makes the events, and knows nothing of keys. As with Stripe, an event says
under which key the call was made that has caused it, and is delivered again to one of
the account's addresses when somebody asks for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
from django.conf import settings

__all__ = ["KEY_FIELD", "deliver", "reports_of", "source_of"]

_BEGINNING = "_created"

#: Where the backend keeps the key for us: it stores and returns what callers attach.
KEY_FIELD = "gateway_idempotency_key"


def reports_of(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what Stripe would report of it, each with the request that has caused it.

    One call causes several events: also that of a payment's beginning.
    """
    told = _with_request(event)
    if event["type"] != "payment_intent.succeeded":
        return [told]
    began = {"id": event["id"] + _BEGINNING, "type": "payment_intent.created"}
    return [told, {**told, **began}]


def source_of(report_id: str) -> str:
    """Return the id of the event that a report is made of."""
    return report_id.removesuffix(_BEGINNING)


def _with_request(event: dict[str, Any]) -> dict[str, Any]:
    attached = event["data"]["object"].get("metadata") or {}
    key = attached.pop(KEY_FIELD, None)
    return {**event, "request": {"id": None, "idempotency_key": key}}


def deliver(event: Mapping[str, Any], endpoint: str) -> int:
    """Send it to this address of the account; return the status of the answer.

    Raises:
        KeyError: there is no such address.
        httpx.HTTPError: no answer came.
    """
    addresses: Mapping[str, str] = getattr(settings, "GATEWAY_WEBHOOK_ENDPOINTS")  # noqa: B009
    secret: str = getattr(settings, "GATEWAY_WEBHOOK_SECRET")  # noqa: B009
    body = json.dumps(event, indent=2, sort_keys=True).encode()
    sent_at = str(int(time.time()))
    signed = f"{sent_at}.".encode() + body
    signature = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    answer = httpx.post(
        addresses[endpoint],
        content=body,
        headers={
            "Content-Type": "application/json",
            "Stripe-Signature": f"t={sent_at},v1={signature}",
        },
        timeout=20,
        trust_env=False,
    )
    return answer.status_code
