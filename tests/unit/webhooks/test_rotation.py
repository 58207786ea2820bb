"""While a secret is changed, deliveries signed with either are verified."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from django_idempotency.webhooks import providers
from django_idempotency.webhooks.deliveries import Rejected, Verified
from django_idempotency.webhooks.verifiers import (
    HMACVerifier,
    StandardWebhooksVerifier,
)

from .deliveries import NOW, delivery

BODY = b'{"id": "evt_1"}'
PLAIN = HMACVerifier(header="X-Signature", prefix="sha256=")
STRIPE = HMACVerifier(
    header="Stripe-Signature",
    signed="{timestamp}.{body}",
    timestamp_field="t",
    signature_field="v1",
)
STANDARD = StandardWebhooksVerifier()
WHSEC = "whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode()
BAD = "0" * 64


@pytest.mark.parametrize("order", ["bad,good", "good,bad", "bad,bad,good"])
def test_any_of_several_signatures_counts(order: str) -> None:
    """F15: during rotation Stripe signs with both secrets."""
    good = STRIPE.sign("whsec_1", BODY, timestamp=str(NOW))
    signatures = {"good": f"v1={good}", "bad": f"v1={BAD}"}
    value = ",".join([f"t={NOW}", *(signatures[each] for each in order.split(","))])

    verdict = providers.STRIPE.verifier.verify(
        delivery(BODY, {"Stripe-Signature": value}), ("whsec_1",)
    )

    assert verdict == Verified(0)


def test_signature_of_another_scheme_does_not_count() -> None:
    """F15: ``v0`` is Stripe's for test events, and is no substitute."""
    good = STRIPE.sign("whsec_1", BODY, timestamp=str(NOW))

    verdict = providers.STRIPE.verifier.verify(
        delivery(BODY, {"Stripe-Signature": f"t={NOW},v0={good},v1={BAD}"}),
        ("whsec_1",),
    )

    assert verdict == Rejected("signature")


@pytest.mark.parametrize(
    ("header", "verifier"),
    [
        ("X-Hub-Signature-256", providers.GITHUB.verifier),
        ("X-Shopify-Hmac-Sha256", providers.SHOPIFY.verifier),
        ("X-Razorpay-Signature", providers.RAZORPAY.verifier),
        ("Webhook-Signature", providers.GOCARDLESS.verifier),
    ],
    ids=["github", "shopify", "razorpay", "gocardless"],
)
def test_old_secret_counts_until_it_is_removed(
    header: str, verifier: HMACVerifier
) -> None:
    """F16: these sign with one secret, and what is queued keeps the old one."""
    value = verifier.prefix + verifier.sign("old", BODY)
    sent = delivery(BODY, {header: value})

    assert verifier.verify(sent, ("new", "old")) == Verified(1)
    assert verifier.verify(sent, ("old", "new")) == Verified(0)
    assert verifier.verify(sent, ("new",)) == Rejected("signature")


def test_old_secret_of_adyen_counts() -> None:
    """F16: Adyen signs when it makes the event, and may send it a month later."""
    from .test_vectors import VECTORS

    vector = VECTORS["V7 Adyen"]

    verdict = vector.profile.verifier.verify(
        delivery(vector.body), ("AB" * 32, vector.secret)
    )

    assert verdict == Verified(1)


@pytest.mark.parametrize(
    "value",
    ["sha256={bad}, sha256={good}", "sha256={good},sha256={bad}"],
    ids=["right one second", "right one first"],
)
def test_header_sent_twice_counts_if_one_is_right(value: str) -> None:
    """F17: WSGI joins the two by a comma."""
    text = value.format(good=PLAIN.sign("secret", BODY), bad=BAD)

    assert PLAIN.verify(delivery(BODY, {"X-Signature": text}), ("secret",)) == (
        Verified(0)
    )


def test_standard_webhooks_signs_with_both_secrets() -> None:
    """F15: the header is a list that a space separates."""
    good = STANDARD.sign(WHSEC, BODY, message_id="msg_1", timestamp=str(NOW))
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": f"v1,{BAD} v2,new v1a,{BAD} nonsense {good}",
    }

    assert STANDARD.verify(delivery(BODY, headers), (WHSEC,)) == Verified(0)


@pytest.mark.parametrize(
    "unusable",
    ["whsec_", "whsec_!!!!", "whsec_é", "whpk_", "whpk_AAAA", " "],
    ids=["no key", "no base64", "no ASCII", "no public key", "short key", "space"],
)
def test_secret_that_cannot_be_used_hides_no_other(unusable: str) -> None:
    good = STANDARD.sign(WHSEC, BODY, message_id="msg_1", timestamp=str(NOW))
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": f"v1a,{BAD} {good}",
    }

    assert STANDARD.verify(delivery(BODY, headers), (unusable, WHSEC)) == Verified(1)


def test_log_says_which_secret_cannot_be_used_and_not_what_it_is() -> None:
    verifier = replace(PLAIN, key_encoding="hex")

    verdict = verifier.verify(
        delivery(BODY, {"X-Signature": f"sha256={BAD}"}), ("hunter2", "  ", "AB")
    )

    assert verdict == Rejected(
        "signature; secret 0 is not hexadecimal; secret 1 is blank"
    )
