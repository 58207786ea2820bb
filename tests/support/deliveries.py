"""Signed deliveries, as the providers send them.

Signed with the standard library and not with the package's verifiers, which would only
be compared with themselves.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.test import Client

SECRET = "whsec_of_the_tests"  # noqa: S105 - nothing else is signed with it
ADYEN_SECRET = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"  # noqa: S105 - Adyen's published example


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery: what goes over the wire."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def stripe(
    event_id: Any = "evt_1", *, secret: str = SECRET, age: int = 0, **fields: Any
) -> Sent:
    """Stripe's event; `fields` go into its body, and ``None`` leaves one out."""
    content = {
        "id": event_id,
        "type": "invoice.paid",
        "created": 1_760_000_000,
        "livemode": True,
        "data": {"object": {"id": "in_1"}},
    } | fields
    return stripe_signed(json.dumps(content).encode(), secret=secret, age=age)


def stripe_signed(body: bytes, *, secret: str = SECRET, age: int = 0) -> Sent:
    timestamp = int(time.time()) - age
    signature = _hex(secret, f"{timestamp}.".encode() + body)
    return Sent(body, {"Stripe-Signature": f"t={timestamp},v1={signature}"})


def github(
    delivery_id: str = "guid-1", *, hook: str = "1", body: bytes = b"{}"
) -> Sent:
    return Sent(
        body,
        {
            "X-Hub-Signature-256": f"sha256={_hex(SECRET, body)}",
            "X-GitHub-Delivery": delivery_id,
            "X-GitHub-Event": "push",
            "X-GitHub-Hook-ID": hook,
        },
    )


def gocardless(*event_ids: str) -> Sent:
    """A batch."""
    events = [
        {"id": each, "resource_type": "payments", "action": "paid_out"}
        for each in event_ids
    ]
    return gocardless_signed(json.dumps({"events": events}).encode())


def gocardless_signed(body: bytes, *, secret: str = SECRET) -> Sent:
    return Sent(body, {"Webhook-Signature": _hex(secret, body)})


def adyen(*references: str, forged: str = "", live: str = "true") -> Sent:
    """A batch whose items are signed one by one; `forged` is one that isn't."""
    items = [
        {"NotificationRequestItem": _adyen_item(each, is_forged=each == forged)}
        for each in references
    ]
    return Sent(json.dumps({"live": live, "notificationItems": items}).encode())


def _adyen_item(reference: str, *, is_forged: bool) -> dict[str, Any]:
    signed = f"{reference}::Merchant:Order:1130:EUR:AUTHORISATION:true"
    key = bytes.fromhex("00" * 32 if is_forged else ADYEN_SECRET)
    return {
        "pspReference": reference,
        "merchantAccountCode": "Merchant",
        "merchantReference": "Order",
        "amount": {"value": 1130, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": {"hmacSignature": _base64(key, signed.encode())},
    }


def slack(**content: Any) -> Sent:
    body = json.dumps(content).encode()
    timestamp = int(time.time())
    signature = _hex(SECRET, f"v0:{timestamp}:".encode() + body)
    return Sent(
        body,
        {
            "X-Slack-Signature": f"v0={signature}",
            "X-Slack-Request-Timestamp": str(timestamp),
        },
    )


def square(event_id: str, *, url: str) -> Sent:
    """Square signs the address that it was told, too."""
    body = json.dumps({"event_id": event_id, "type": "payment.updated"}).encode()
    signature = _base64(SECRET.encode(), url.encode() + body)
    return Sent(body, {"x-square-hmacsha256-signature": signature})


def deliver(path: str, sent: Sent, client: Client | None = None, **more: Any) -> Any:
    """Send it inside this process; an exception of the view is a 500."""
    client = client or Client()
    client.raise_request_exception = False
    return client.post(
        path,
        sent.body,
        content_type="application/json",
        headers=dict(sent.headers),
        **more,
    )


def _hex(secret: str, message: bytes) -> str:
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def _base64(key: bytes, message: bytes) -> str:
    return base64.b64encode(hmac.digest(key, message, "sha256")).decode()
