"""The vendors' own verification, as functions that answer yes or no.

What a library raises counts as a refusal. The libraries are imported where they are
used: only the tests marked ``differential`` need them.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

from django.http import QueryDict

from django_idempotency.webhooks.deliveries import Delivery


def stripe(delivery: Delivery, secret: str) -> bool:
    from stripe import WebhookSignature

    header = delivery.headers.get("Stripe-Signature")
    WebhookSignature.verify_header(delivery.body, header, secret, 300)
    return True


def standard_webhooks(delivery: Delivery, secret: str) -> bool:
    from standardwebhooks import Webhook

    Webhook(secret).verify(delivery.body, dict(delivery.headers))
    return True


def adyen(delivery: Delivery, secret: str) -> bool:
    from Adyen.util import is_valid_hmac_notification

    return (
        is_valid_hmac_notification(json.loads(delivery.body.decode()), secret) is True
    )


def square(delivery: Delivery, secret: str) -> bool:
    from square.utils.webhooks_helper import verify_signature

    is_valid = verify_signature(
        request_body=delivery.body.decode(),
        signature_header=delivery.headers["x-square-hmacsha256-signature"],
        signature_key=secret,
        notification_url=delivery.url,
    )
    return is_valid is True


def gocardless(delivery: Delivery, secret: str) -> bool:
    from gocardless_pro import webhooks

    # Its public function parses the events, too, and fails on other bodies.
    webhooks._verify_signature(
        delivery.body, secret, delivery.headers.get("Webhook-Signature")
    )
    return True


def razorpay(delivery: Delivery, secret: str) -> bool:
    from razorpay.utility import Utility

    return (
        Utility().verify_webhook_signature(
            delivery.body.decode(), delivery.headers["X-Razorpay-Signature"], secret
        )
        is True
    )


def slack(delivery: Delivery, secret: str) -> bool:
    from slack_sdk.signature import SignatureVerifier

    verifier = SignatureVerifier(secret)
    return verifier.is_valid_request(delivery.body, dict(delivery.headers)) is True


def paddle(delivery: Delivery, secret: str) -> bool:
    from paddle_billing.Notifications import Secret, Verifier

    request = SimpleNamespace(body=delivery.body, headers=delivery.headers)
    return Verifier(maximum_variance=300).verify(request, Secret(secret)) is True


def twilio(delivery: Delivery, secret: str) -> bool:
    from twilio.request_validator import RequestValidator

    parameters = (
        delivery.body.decode()
        if "bodySHA256=" in delivery.url
        else QueryDict(delivery.body.decode())
    )
    given = delivery.headers.get("X-Twilio-Signature")
    return RequestValidator(secret).validate(delivery.url, parameters, given) is True
