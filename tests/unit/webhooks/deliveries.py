"""Deliveries for the tests of verifiers and profiles, and what signs them."""

import base64
from collections.abc import Mapping
from datetime import timedelta

from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency.webhooks.deliveries import Delivery
from django_idempotency.webhooks.verifiers import HMACVerifier, StandardWebhooksVerifier

NOW = 1_700_000_000
BODY = b'{"id": "evt_1"}'
KEY = b"0123456789abcdef01234567"
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
STRIPE = HMACVerifier(
    header="Stripe-Signature",
    signed="{timestamp}.{body}",
    timestamp_field="t",
    signature_field="v1",
    tolerance=timedelta(minutes=5),
)
STANDARD = StandardWebhooksVerifier()


def delivery(
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    *,
    url: str = "https://shop.example/hook/",
    received_at: float = NOW,
) -> Delivery:
    return Delivery(
        body=body,
        headers=CaseInsensitiveMapping(headers or {}),
        url=url,
        received_at=received_at,
    )


def stripe_signed(
    body: bytes = BODY,
    *,
    timestamp: str = str(NOW),
    value: str = "t={t},v1={good}",
    received_at: float = NOW,
) -> Delivery:
    """A delivery with Stripe's header spelt so; its secret is ``whsec_1``."""
    good = STRIPE.sign("whsec_1", body, timestamp=timestamp)
    headers = {"Stripe-Signature": value.format(t=timestamp, good=good)}
    return delivery(body, headers, received_at=received_at)


def standard_headers(
    value: str = "{good}", *, timestamp: str = str(NOW), family: str = "webhook"
) -> dict[str, str]:
    """The headers of `BODY` under `WHSEC`, with the signature spelt so."""
    good = STANDARD.sign(WHSEC, BODY, message_id="msg_1", timestamp=timestamp)
    return {
        f"{family}-id": "msg_1",
        f"{family}-timestamp": timestamp,
        f"{family}-signature": value.format(good=good),
    }
