"""Profiles of payment and other providers, as of November 2026.

Write your own in ten lines: see the how-to. Check a limit at the provider's before you
rely on it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .places import UnusableDelivery, is_storable
from .profiles import Profile, Reply
from .verifiers import (
    AdyenVerifier,
    HMACVerifier,
    StandardWebhooksVerifier,
    TwilioVerifier,
)

__all__ = [
    "ADYEN",
    "GITHUB",
    "GOCARDLESS",
    "PADDLE",
    "RAZORPAY",
    "SHOPIFY",
    "SLACK",
    "SQUARE",
    "STANDARD_WEBHOOKS",
    "STRIPE",
    "SVIX",
    "TWILIO",
]

FIVE_MINUTES = timedelta(minutes=5)
MEBIBYTE = 1024 * 1024


def _slack_challenge(content: Any) -> Reply | None:
    if content.get("type") != "url_verification":
        return None
    challenge = content.get("challenge")
    if not isinstance(challenge, str) or not is_storable(challenge):
        raise UnusableDelivery("the challenge can't be sent back")
    return Reply(body=challenge)


STRIPE = Profile(
    name="stripe",
    # The official library accepts any timestamp in the future; we don't.
    verifier=HMACVerifier(
        header="Stripe-Signature",
        signed="{timestamp}.{body}",
        timestamp_field="t",
        signature_field="v1",
        tolerance=FIVE_MINUTES,
    ),
    id="id",
    type="type",
    account=("account", "context", "livemode"),
    # A thin event has the second.
    object_key=("data.object.id", "related_object.id"),
    call_key="request.idempotency_key",
    occurred_at="created",
    livemode="livemode",
    acknowledge_within=timedelta(seconds=20),
    retry_horizon=timedelta(days=3),
)

STANDARD_WEBHOOKS = Profile(
    name="standardwebhooks",
    verifier=StandardWebhooksVerifier(),
    id="header:webhook-id",
    type="type",
    occurred_at="timestamp",
    acknowledge_within=timedelta(seconds=15),
    retry_horizon=timedelta(days=4),
)

SVIX = Profile(
    name="svix",
    verifier=StandardWebhooksVerifier(family="svix"),
    id="header:svix-id",
    type="type",
    occurred_at="timestamp",
    acknowledge_within=timedelta(seconds=15),
    retry_horizon=timedelta(days=4),
)

GITHUB = Profile(
    name="github",
    verifier=HMACVerifier(header="X-Hub-Signature-256", prefix="sha256="),
    id="header:X-GitHub-Delivery",
    type="header:X-GitHub-Event",
    account="header:X-GitHub-Hook-ID",
    retries=False,
    acknowledge_within=timedelta(seconds=10),
    retry_horizon=timedelta(days=3),
    max_body=25 * MEBIBYTE,
)

SHOPIFY = Profile(
    name="shopify",
    verifier=HMACVerifier(header="X-Shopify-Hmac-Sha256", encoding="base64"),
    # One change of a shop may be an event of several topics, under one id.
    id=("header:X-Shopify-Event-Id", "header:X-Shopify-Topic"),
    type="header:X-Shopify-Topic",
    account="header:X-Shopify-Shop-Domain",
    occurred_at="header:X-Shopify-Triggered-At",
    acknowledge_within=timedelta(seconds=5),
    retry_horizon=timedelta(hours=4),
    max_body=10 * MEBIBYTE,  # a product with all of its variants
)

SQUARE = Profile(
    name="square",
    verifier=HMACVerifier(
        header="x-square-hmacsha256-signature",
        signed="{url}{body}",
        encoding="base64",
    ),
    id="event_id",
    type="type",
    account="merchant_id",
    object_key="data.id",
    occurred_at="created_at",
    acknowledge_within=timedelta(seconds=10),
    retry_horizon=timedelta(hours=24),
)

ADYEN = Profile(
    name="adyen",
    verifier=AdyenVerifier(),
    items="notificationItems",
    item="NotificationRequestItem",
    id=("eventCode", "pspReference", "success"),
    type="eventCode",
    account="merchantAccountCode",
    object_key="pspReference",
    reference="merchantReference",
    occurred_at="eventDate",
    livemode="live",
    # One queue for each endpoint: what comes next waits until this one is accepted.
    stops_at_failure=True,
    acknowledge_within=timedelta(seconds=10),
    retry_horizon=timedelta(days=30),
    success=Reply(body="[accepted]"),
)

PADDLE = Profile(
    name="paddle",
    verifier=HMACVerifier(
        header="Paddle-Signature",
        signed="{timestamp}:{body}",
        separator=";",
        timestamp_field="ts",
        signature_field="h1",
        tolerance=FIVE_MINUTES,
    ),
    id="event_id",
    type="event_type",
    object_key="data.id",
    occurred_at="occurred_at",
    acknowledge_within=timedelta(seconds=5),
    retry_horizon=timedelta(days=3),
)

GOCARDLESS = Profile(
    name="gocardless",
    verifier=HMACVerifier(header="Webhook-Signature"),
    items="events",
    id="id",
    type=("resource_type", "action"),
    account="links.organisation",
    occurred_at="created_at",
    acknowledge_within=timedelta(seconds=10),
    retry_horizon=timedelta(days=3),
    success=Reply(status=204),
    rejected_status=498,
)

RAZORPAY = Profile(
    name="razorpay",
    verifier=HMACVerifier(header="X-Razorpay-Signature"),
    id="header:x-razorpay-event-id",
    type="event",
    account="account_id",
    occurred_at="created_at",
    acknowledge_within=timedelta(seconds=5),
    # It sends for 24 hours; what it missed can be asked for, by its support so long.
    retry_horizon=timedelta(days=15),
)

SLACK = Profile(
    name="slack",
    verifier=HMACVerifier(
        header="X-Slack-Signature",
        signed="v0:{timestamp}:{body}",
        prefix="v0=",
        timestamp_header="X-Slack-Request-Timestamp",
        tolerance=FIVE_MINUTES,
    ),
    id="event_id",
    type="event.type",
    account=("team_id", "api_app_id"),
    occurred_at="event_time",
    acknowledge_within=timedelta(seconds=3),
    retry_horizon=timedelta(minutes=6),
    challenge=_slack_challenge,
)

TWILIO = Profile(
    name="twilio",
    verifier=TwilioVerifier(),
    is_form=True,
    id=("MessageSid", "MessageStatus"),
    type="MessageStatus",
    account="AccountSid",
    object_key="MessageSid",
    retries=False,
    acknowledge_within=timedelta(seconds=15),
    retry_horizon=timedelta(hours=1),
)
