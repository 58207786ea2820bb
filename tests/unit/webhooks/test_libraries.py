"""The vendors' libraries, guarded."""

import base64
import sys
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks.deliveries import Rejected, Verified
from django_idempotency.webhooks.verifiers import (
    StandardWebhooksLibraryVerifier,
    StripeLibraryVerifier,
)

from .deliveries import BODY, KEY, NOW, WHSEC, delivery, standard_headers, stripe_signed


def _stripe(
    value: str = "t={t},v1={good}",
    *,
    age: int = 0,
    secrets: tuple[str, ...] = ("whsec_1",),
    body: bytes = BODY,
) -> Verified | Rejected:
    sent = stripe_signed(timestamp=str(NOW - age), value=value)
    return StripeLibraryVerifier().verify(replace(sent, body=body), secrets)


def _standard(
    value: str = "{good}",
    *,
    age: int = 0,
    secrets: tuple[str, ...] = (WHSEC,),
    body: bytes = BODY,
) -> Verified | Rejected:
    now = time.time()  # the library asks no other clock
    headers = standard_headers(value, timestamp=str(int(now) - age))
    sent = delivery(body, headers, received_at=now)
    return StandardWebhooksLibraryVerifier().verify(sent, secrets)


def test_signature_is_verified() -> None:
    assert _stripe() == _stripe("t={t},v1=bad,v1={good}") == Verified(0)
    assert _standard() == _standard("nonsense v1 v1a,x v1,! {good}") == Verified(0)


def test_any_secret_counts() -> None:  # F16
    assert _stripe(secrets=("new", " ", "whsec_1")) == Verified(2)
    other = "whsec_" + base64.b64encode(KEY[::-1]).decode()
    assert _standard(secrets=(other, "whsec_", "whsec_!", WHSEC)) == Verified(3)


def test_future_counts_as_the_past_does() -> None:
    """F19: Stripe's library lets any future pass."""
    for age in (299, -299):
        assert _stripe(age=age) == Verified(0)
    for age in (301, -301, -(10**8)):
        assert _stripe(age=age) == Rejected("timestamp")
    for age in (200, -200):  # its clock goes on while we sign
        assert _standard(age=age) == Verified(0)
    for age in (400, -400):
        assert _standard(age=age) == Rejected("timestamp")


@pytest.mark.parametrize("value", ["t=abc,v1={good}", "t={t},t={t},v1={good}"])
def test_odd_timestamp_of_stripe_is_refused(value: str) -> None:  # F21
    assert isinstance(_stripe(value), Rejected)


def test_signature_of_another_scheme_or_body_is_refused() -> None:  # F21
    assert isinstance(_standard("v2,{good}"), Rejected)
    for body in (b"\xff", b"", BODY + b" "):
        assert isinstance(_stripe(body=body), Rejected)
        assert isinstance(_standard(body=body), Rejected)


def test_public_key_is_no_secret() -> None:
    public = "whpk_" + base64.b64encode(KEY).decode()

    assert _standard(secrets=(public,)) == Rejected(
        "signature; secret 0 is a public key, which the library can't use"
    )


@pytest.mark.parametrize(
    ("library", "verifier"),
    [
        ("stripe", StripeLibraryVerifier),
        ("standardwebhooks", StandardWebhooksLibraryVerifier),
    ],
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
