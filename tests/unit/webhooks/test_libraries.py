"""The vendors' libraries, guarded."""

from __future__ import annotations

import base64
import sys
import time
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks.deliveries import Rejected, Verified, Verifier
from django_idempotency.webhooks.verifiers import (
    HMACVerifier,
    StandardWebhooksLibraryVerifier,
    StandardWebhooksVerifier,
    StripeLibraryVerifier,
)

from .deliveries import delivery

KEY = b"0123456789abcdef01234567"
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
BODY = b'{"id": "evt_1"}'
STRIPE = HMACVerifier(
    header="Stripe-Signature",
    signed="{timestamp}.{body}",
    timestamp_field="t",
    signature_field="v1",
)
STANDARD = StandardWebhooksVerifier()


def _stripe(
    *,
    age: int = 0,
    value: str = "t={t},v1={good}",
    secrets: tuple[str, ...] = ("whsec_1",),
    body: bytes = BODY,
) -> Verified | Rejected:
    now = 1_700_000_000
    timestamp = str(now - age)
    good = STRIPE.sign("whsec_1", BODY, timestamp=timestamp)
    headers = {"Stripe-Signature": value.format(t=timestamp, good=good)}
    return StripeLibraryVerifier().verify(
        delivery(body, headers, received_at=now), secrets
    )


def _standard(
    *,
    age: int = 0,
    value: str = "{good}",
    secrets: tuple[str, ...] = (WHSEC,),
    body: bytes = BODY,
) -> Verified | Rejected:
    now = time.time()  # the library asks no other clock
    timestamp = str(int(now) - age)
    good = STANDARD.sign(WHSEC, BODY, message_id="msg_1", timestamp=timestamp)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": timestamp,
        "webhook-signature": value.format(good=good),
    }
    return StandardWebhooksLibraryVerifier().verify(
        delivery(body, headers, received_at=now), secrets
    )


def test_signature_of_stripe_is_verified() -> None:
    assert _stripe() == Verified(0)
    assert _stripe(value="t={t},v1=bad,v1={good}") == Verified(0)


def test_signature_of_standard_webhooks_is_verified() -> None:
    assert _standard() == Verified(0)


def test_any_secret_counts() -> None:
    """F16"""
    assert _stripe(secrets=("new", " ", "whsec_1")) == Verified(2)
    other = "whsec_" + base64.b64encode(KEY[::-1]).decode()
    assert _standard(secrets=(other, "whsec_", "whsec_!", WHSEC)) == Verified(3)


def test_future_counts_as_the_past_does() -> None:
    """F19: Stripe's library lets any future pass."""
    ages = (299, -299, 301, -301, -(10**8))
    verdicts = [Verified(0), Verified(0), *[Rejected("timestamp")] * 3]

    assert [_stripe(age=age) for age in ages] == verdicts


def test_old_or_early_standard_webhooks_are_refused() -> None:
    assert [_standard(age=age) for age in (200, -200, 400, -400)] == [
        Verified(0),
        Verified(0),
        Rejected("timestamp"),
        Rejected("timestamp"),
    ]


@pytest.mark.parametrize(
    "value",
    ["", "é", "t={t}", "t=abc,v1={good}", "t={t},t={t},v1={good}", "t={t},v1=é", "="],
)
def test_hostile_header_of_stripe_is_refused(value: str) -> None:
    """F21"""
    assert isinstance(_stripe(value=value), Rejected)


@pytest.mark.parametrize("value", [" ", "é", "v1", "v1,é", "v1,!", "v2,{good}"])
def test_hostile_header_of_standard_webhooks_is_refused(value: str) -> None:
    """F21"""
    assert isinstance(_standard(value=value), Rejected)


def test_entry_that_cannot_be_read_hides_no_other() -> None:
    assert _standard(value="nonsense v1 v1a,x v1,! {good}") == Verified(0)


@pytest.mark.parametrize("body", [b"\xff", b"", BODY + b" "])
def test_another_body_is_refused(body: bytes) -> None:
    assert isinstance(_stripe(body=body), Rejected)
    assert isinstance(_standard(body=body), Rejected)


def test_public_key_is_no_secret() -> None:
    public = "whpk_" + base64.b64encode(KEY).decode()

    assert _standard(secrets=(public,)) == Rejected(
        "signature; secret 0 is a public key, which the library can't use"
    )


@pytest.mark.parametrize(
    "verifier", [StripeLibraryVerifier(), StandardWebhooksLibraryVerifier()]
)
def test_missing_headers_are_refused(verifier: Verifier) -> None:
    assert verifier.verify(delivery(BODY), (WHSEC,)) == Rejected("no signature")


@pytest.mark.parametrize(
    ("library", "verifier"),
    [
        ("stripe", StripeLibraryVerifier),
        ("standardwebhooks", StandardWebhooksLibraryVerifier),
    ],
    ids=["stripe", "standardwebhooks"],
)
def test_missing_library_is_noticed_at_once(
    library: str, verifier: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)

    with pytest.raises(ImproperlyConfigured, match=rf"django-idempotency\[{library}\]"):
        verifier()


def test_tolerance_of_zero_is_refused() -> None:
    """F19: the library takes it for no limit."""
    with pytest.raises(ImproperlyConfigured):
        StripeLibraryVerifier(tolerance=timedelta(0))
