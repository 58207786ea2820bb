"""What is refused, whoever sends it, and without an exception."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given, settings
from hypothesis import strategies as st

from django_idempotency.webhooks import providers
from django_idempotency.webhooks.deliveries import Rejected, Verified, Verifier
from django_idempotency.webhooks.verifiers import (
    AdyenVerifier,
    HMACVerifier,
    StandardWebhooksVerifier,
    TwilioVerifier,
)

from .deliveries import NOW, delivery

BODY = b'{"id": "evt_1"}'
KEY = b"0123456789abcdef01234567"
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
STANDARD = StandardWebhooksVerifier()
STRIPE = HMACVerifier(
    header="Stripe-Signature",
    signed="{timestamp}.{body}",
    timestamp_field="t",
    signature_field="v1",
    tolerance=timedelta(minutes=5),
)
ALL = {
    name: vars(providers)[name].verifier
    for name in providers.__all__
    if hasattr(vars(providers)[name], "verifier")
}
HEADERS = {
    "ADYEN": [],
    "GITHUB": ["X-Hub-Signature-256"],
    "GOCARDLESS": ["Webhook-Signature"],
    "PADDLE": ["Paddle-Signature"],
    "RAZORPAY": ["X-Razorpay-Signature"],
    "SHOPIFY": ["X-Shopify-Hmac-Sha256"],
    "SLACK": ["X-Slack-Signature", "X-Slack-Request-Timestamp"],
    "SQUARE": ["x-square-hmacsha256-signature"],
    "STANDARD_WEBHOOKS": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "STRIPE": ["Stripe-Signature"],
    "SVIX": ["svix-id", "svix-timestamp", "svix-signature"],
    "TWILIO": ["X-Twilio-Signature"],
}
SECRETS = (WHSEC, "AB12", "secret", "whpk_" + base64.b64encode(bytes(32)).decode())
HOSTILE = {
    "empty": "",
    "space": " ",
    "é": "é",
    "surrogate": "\udce9",
    "NUL": "\0",
    "no comma": "v1",
    "no value": "t,v1",
    "only separators": ",;= ,,==",
    "bad base64": "v1,!!!! v1a,!!!!",
    "prefix only": "sha256=",
    "v0 only": "v0=",
    "timestamp abc": "t=abc,v1=00",
    "timestamp nan": "t=nan,v1=00",
    "timestamp 1e9": "t=1e9,v1=00",
    "timestamp with spaces": "t= 1 ,v1=00",
    "timestamp 10^30": f"t={10**30},v1=00",
    "timestamp in other digits": "t=١٦,v1=00",
    "negative timestamp": "t=-1,v1=00",
    "huge": "v1=" + "0," * 50_000,
    "line break": "t=1\r\nv1=0",
}


def _stripe(timestamp: str, body: bytes = BODY) -> str:
    signature = STRIPE.sign("whsec_1", body, timestamp=timestamp)
    return f"t={timestamp},v1={signature}"


@pytest.mark.parametrize("value", list(HOSTILE.values()), ids=list(HOSTILE))
@pytest.mark.parametrize("name", list(ALL))
def test_hostile_header_is_refused(name: str, value: str) -> None:
    """F21: refused, and nothing raised."""
    headers = dict.fromkeys(HEADERS[name], value)

    assert isinstance(ALL[name].verify(delivery(BODY, headers), SECRETS), Rejected)


@pytest.mark.parametrize("name", list(ALL))
def test_missing_header_is_refused(name: str) -> None:
    """F21"""
    assert isinstance(ALL[name].verify(delivery(BODY), SECRETS), Rejected)


@pytest.mark.parametrize("name", list(ALL))
def test_nothing_is_verified_without_a_secret(name: str) -> None:
    headers = dict.fromkeys(HEADERS[name], str(NOW))

    assert isinstance(ALL[name].verify(delivery(BODY, headers), ()), Rejected)


@pytest.mark.parametrize("name", list(ALL))
@settings(deadline=None)  # other tests may keep the machine busy
@given(data=st.data())
def test_no_verifier_raises(name: str, data: st.DataObject) -> None:
    """F21"""
    text = st.text() | st.sampled_from([str(NOW), "v1,", f"t={NOW},v1=", "sha256="])
    headers = {header: data.draw(text) for header in HEADERS[name]}
    body = data.draw(st.binary() | st.just(b'{"notificationItems":[1]}'))
    secrets = tuple(data.draw(st.lists(st.text() | st.sampled_from(SECRETS))))
    url = data.draw(st.text())

    verdict = ALL[name].verify(delivery(body, headers, url=url), secrets)

    assert isinstance(verdict, Rejected)


@pytest.mark.parametrize(
    ("age", "accepted"),
    [(299, True), (300, True), (301, False), (3600, False)],
)
@pytest.mark.parametrize("direction", [-1, 1], ids=["past", "future"])
def test_timestamp_counts_in_both_directions(
    direction: int, age: int, accepted: bool
) -> None:
    """F19: Stripe's own library lets any future pass."""
    headers = {"Stripe-Signature": _stripe(str(NOW + direction * age))}

    verdict = STRIPE.verify(delivery(BODY, headers), ("whsec_1",))

    assert verdict == (Verified(0) if accepted else Rejected("timestamp"))


@pytest.mark.parametrize("direction", [-1, 1], ids=["past", "future"])
def test_timestamp_of_standard_webhooks_counts_in_both_directions(
    direction: int,
) -> None:
    """F19"""

    def verdict(age: int) -> Verified | Rejected:
        timestamp = str(NOW + direction * age)
        entry = STANDARD.sign(WHSEC, BODY, message_id="msg_1", timestamp=timestamp)
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": timestamp,
            "webhook-signature": entry,
        }
        return STANDARD.verify(delivery(BODY, headers), (WHSEC,))

    assert [verdict(299), verdict(301)] == [Verified(0), Rejected("timestamp")]


@pytest.mark.parametrize(
    "timestamp",
    ["1e9", "nan", " 1700000000", "1700000000.5", "+1700000000", "1_700_000_000", ""],
)
def test_timestamp_is_plain_seconds_even_if_it_is_signed(timestamp: str) -> None:
    """F21: no other spelling, though the signature is right."""
    headers = {"Stripe-Signature": _stripe(timestamp)}

    verdict = STRIPE.verify(delivery(BODY, headers), ("whsec_1",))

    assert verdict == Rejected("timestamp")


def test_two_timestamps_are_refused() -> None:
    """The one that is judged need not be the one that is signed."""
    headers = {"Stripe-Signature": f"t={NOW},{_stripe(str(NOW))}"}

    verdict = STRIPE.verify(delivery(BODY, headers), ("whsec_1",))

    assert verdict == Rejected("timestamp")


@pytest.mark.parametrize(
    "make",
    [
        lambda: HMACVerifier(
            header="X",
            signed="{timestamp}{body}",
            timestamp_header="T",
            tolerance=timedelta(0),
        ),
        lambda: StandardWebhooksVerifier(tolerance=timedelta(0)),
        lambda: StandardWebhooksVerifier(tolerance=timedelta(seconds=-1)),
        lambda: HMACVerifier(header="X", tolerance=timedelta(minutes=5)),
        lambda: HMACVerifier(header="X", timestamp_header="T"),
        lambda: HMACVerifier(header="X", signed="{timestamp}{body}"),
        lambda: HMACVerifier(header="X", signed="{timestamp}", timestamp_header="T"),
        lambda: HMACVerifier(header="X", signed="{id}.{body}"),
        lambda: HMACVerifier(
            header="X", signed="{timestamp}{body}", timestamp_field="t"
        ),
        lambda: HMACVerifier(
            header="X",
            signed="{timestamp}{body}",
            timestamp_field="t",
            signature_field="v1",
            timestamp_header="T",
        ),
    ],
    ids=[
        "F19 tolerance of zero",
        "F19 tolerance of zero, Standard Webhooks",
        "negative tolerance",
        "tolerance of a timestamp that isn't signed",
        "timestamp that isn't signed",
        "timestamp that is nowhere",
        "body that isn't signed",
        "unknown placeholder",
        "signature that is nowhere",
        "two places of the timestamp",
    ],
)
def test_verifier_that_protects_less_than_it_says_is_refused(make: Any) -> None:
    with pytest.raises(ImproperlyConfigured):
        make()


@pytest.mark.parametrize("body", [b"\xff\xfe", b"", b"\0", b"[" * 100_000])
def test_bytes_are_signed_whatever_they_are(body: bytes) -> None:
    """FR-093, F22: verifying doesn't parse; what can't be read is refused later."""
    headers = {"Stripe-Signature": _stripe(str(NOW), body)}

    assert STRIPE.verify(delivery(body, headers), ("whsec_1",)) == Verified(0)


@pytest.mark.parametrize(
    "body",
    [b'{"a":1}', b'{"a": 1}\n', b'{ "a": 1}', b'{"a": 1.0}'],
    ids=["compact", "with newline", "with space", "other number"],
)
def test_body_that_was_written_again_is_refused(body: bytes) -> None:
    """F18, FR-093: only the bytes that were signed are verified."""
    headers = {"Stripe-Signature": _stripe(str(NOW), b'{"a": 1}')}

    verdict = STRIPE.verify(delivery(body, headers), ("whsec_1",))

    assert verdict == Rejected("signature")


@pytest.mark.parametrize(
    ("verifier", "secret", "headers"),
    [
        (HMACVerifier(header="X-Signature"), " ", {}),
        (HMACVerifier(header="X-Signature", key_encoding="hex"), " ", {}),
        (STANDARD, "whsec_", {}),
        (STANDARD, "whsec_====", {}),
        (STANDARD, "whsec_!-!-", {}),
    ],
    ids=["space", "hexadecimal space", "prefix only", "padding only", "no base64"],
)
def test_empty_key_verifies_nothing(
    verifier: Verifier, secret: str, headers: dict[str, str]
) -> None:
    """F47: a setting that was left at its placeholder must not let everybody in."""
    digest = hmac.digest(b"", BODY, "sha256")
    message = f"msg_1.{NOW}.".encode() + BODY
    standard = base64.b64encode(hmac.digest(b"", message, "sha256")).decode()
    headers = {
        "X-Signature": digest.hex(),
        "webhook-id": "msg_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": f"v1,{standard}",
    }

    verdict = verifier.verify(delivery(BODY, headers), (secret,))

    assert isinstance(verdict, Rejected)


def test_public_key_is_no_secret() -> None:
    """The official library would take it for one, and everybody knows it."""
    public = "whpk_" + base64.b64encode(KEY).decode()
    message = f"msg_1.{NOW}.".encode() + BODY
    forged = base64.b64encode(hmac.digest(KEY, message, "sha256")).decode()
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": f"v1,{forged} v1a,{forged}",
    }

    verdict = STANDARD.verify(delivery(BODY, headers), (public,))

    assert verdict == Rejected("signature; secret 0 is no ed25519 key")


def test_ed25519_without_its_package_is_refused_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from .test_vectors import VECTORS

    vector = VECTORS["V4 Svix, ed25519"]
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)

    verdict = vector.profile.verifier.verify(
        delivery(vector.body, vector.headers, received_at=vector.at), (vector.secret,)
    )

    assert verdict == Rejected(
        "signature; secret 0 needs the package cryptography: "
        "pip install django-idempotency[crypto]"
    )


@pytest.mark.parametrize("change", ["id", "timestamp", "signature"])
@pytest.mark.parametrize("family", ["webhook", "svix"])
def test_headers_of_the_two_families_do_not_mix(family: str, change: str) -> None:
    """Else a delivery could be sent again under an id of the sender's choice."""
    other = {"webhook": "svix", "svix": "webhook"}[family]
    profile = {"webhook": providers.STANDARD_WEBHOOKS, "svix": providers.SVIX}[family]
    headers = {
        f"{family}-id": "msg_1",
        f"{family}-timestamp": str(NOW),
        f"{family}-signature": STANDARD.sign(
            WHSEC, BODY, message_id="msg_1", timestamp=str(NOW)
        ),
    }
    moved = {**headers, f"{other}-{change}": headers[f"{family}-{change}"]}
    del moved[f"{family}-{change}"]

    assert profile.verifier.verify(delivery(BODY, headers), (WHSEC,)) == Verified(0)
    assert profile.verifier.verify(delivery(BODY, moved), (WHSEC,)) == (
        Rejected("no signature")
    )


def test_id_beside_the_verified_headers_is_not_read() -> None:
    """The captured ``webhook-…`` headers of a delivery, with a new ``svix-id``."""
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": STANDARD.sign(
            WHSEC, BODY, message_id="msg_1", timestamp=str(NOW)
        ),
        "svix-id": "msg_2",
    }

    assert providers.SVIX.verifier.verify(delivery(BODY, headers), (WHSEC,)) == (
        Rejected("no signature")
    )


ADYEN_KEY = "AB" * 32


def _item(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "pspReference": "psp_1",
        "originalReference": "",
        "merchantAccountCode": "Shop",
        "merchantReference": "order:1",
        "amount": {"value": 1130, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
    }
    return item | changes


def _signature(item: dict[str, Any]) -> str:
    fields = [
        item["pspReference"],
        item["originalReference"],
        item["merchantAccountCode"],
        item["merchantReference"],
        item["amount"]["value"],
        item["amount"]["currency"],
        item["eventCode"],
        item["success"],
    ]
    message = ":".join(map(str, fields)).encode()
    digest = hmac.digest(bytes.fromhex(ADYEN_KEY), message, "sha256")
    return base64.b64encode(digest).decode()


def _signed(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "additionalData": {"hmacSignature": _signature(item)}}


def _adyen(*items: Any) -> Verified | Rejected:
    wrapped = [{"NotificationRequestItem": item} for item in items]
    body = json.dumps({"live": "false", "notificationItems": wrapped}).encode()
    return AdyenVerifier().verify(delivery(body), (ADYEN_KEY,))


def test_forged_second_item_of_adyen_is_refused() -> None:
    """F34: the official library looks at the first only."""
    good = _signed(_item())
    forged = {**_signed(_item()), "amount": {"value": 1, "currency": "EUR"}}

    assert _adyen(good, good) == Verified(0)
    assert _adyen(good, forged) == Rejected("signature")
    assert _adyen(forged, good) == Rejected("signature")


@pytest.mark.parametrize(
    "item",
    [
        _item(),
        _item(additionalData={}),
        _item(additionalData={"hmacSignature": None}),
        _item(additionalData={"hmacSignature": ""}),
        _item(additionalData=[]),
        _signed(_item()) | {"amount": None},
        _signed(_item()) | {"amount": {"value": "1130", "currency": "EUR"}},
        _signed(_item()) | {"amount": {"value": 1130.0, "currency": "EUR"}},
        _signed(_item(amount={"value": True, "currency": "EUR"})),
        _signed(_item(success=True)),
        _signed(_item(merchantReference=None)),
        [],
        None,
    ],
    ids=[
        "no additionalData",
        "no signature",
        "signature null",
        "signature empty",
        "additionalData no object",
        "amount null",
        "amount as text",
        "amount with a fraction",
        "amount as truth",
        "success as truth",
        "reference null",
        "list",
        "null",
    ],
)
def test_item_of_adyen_that_is_not_as_signed_is_refused(item: Any) -> None:
    """F21"""
    assert isinstance(_adyen(item), Rejected)


def test_batch_without_items_is_refused() -> None:
    assert _adyen() == Rejected("no items")


@pytest.mark.parametrize(
    "changes",
    [
        {"merchantReference": "order", "amount": {"value": 1, "currency": "1130:EUR"}},
        {"merchantAccountCode": "Shop:order", "merchantReference": "1"},
        {"pspReference": "psp_1:", "merchantReference": "1"},
    ],
)
def test_fields_of_adyen_can_be_read_in_one_way(changes: dict[str, Any]) -> None:
    """A reference with a colon must not make room for another account or amount."""
    moved = _signed(_item(**changes))

    assert _adyen(moved) == Rejected("fields")


def test_public_address_is_what_counts() -> None:
    """F37: behind a proxy, the address that the provider has is verified."""
    verifier = HMACVerifier(
        header="x-square-hmacsha256-signature",
        signed="{url}{body}",
        encoding="base64",
    )
    url = "https://shop.example/square/"
    headers = {"x-square-hmacsha256-signature": verifier.sign("key", BODY, url=url)}

    def verdict(seen: str) -> Verified | Rejected:
        square = providers.SQUARE.verifier
        return square.verify(delivery(BODY, headers, url=seen), ("key",))

    assert verdict(url) == Verified(0)
    assert verdict("http://app:8000/square/") == Rejected("signature")


def _twilio_signature(message: str) -> dict[str, str]:
    digest = hmac.digest(b"12345", message.encode(), "sha1")
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


@pytest.mark.parametrize(
    ("seen", "signed"),
    [
        ("http://shop.example/t", "http://shop.example:80/t"),
        ("https://shop.example/t", "https://shop.example:443/t"),
        ("https://shop.example:8443/t", "https://shop.example/t"),
        ("https://shop.example:8443/t", "https://shop.example:8443/t"),
        ("https://me:pass@shop.example/t", "https://me:pass@shop.example:443/t"),
        ("https://Shop.Example/t?a=%20b", "https://Shop.Example/t?a=%20b"),
    ],
)
def test_twilio_signs_with_or_without_the_port(seen: str, signed: str) -> None:
    """F37"""
    headers = _twilio_signature(f"{signed}AaBb")
    sent = delivery(b"B=b&A=a", headers, url=seen)

    assert TwilioVerifier().verify(sent, ("12345",)) == Verified(0)


def test_digest_of_twilio_covers_the_body() -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    url = f"https://shop.example/t?bodySHA256={digest}"
    headers = _twilio_signature(url)

    def verdict(body: bytes) -> Verified | Rejected:
        return TwilioVerifier().verify(delivery(body, headers, url=url), ("12345",))

    assert verdict(BODY) == Verified(0)
    assert verdict(BODY + b" ") == Rejected("body digest")


def test_signed_timestamp_without_tolerance_may_be_of_any_time() -> None:
    verifier = HMACVerifier(
        header="X-Signature", signed="{timestamp}.{body}", timestamp_header="X-Time"
    )
    headers = {
        "X-Signature": verifier.sign("secret", BODY, timestamp="1"),
        "X-Time": "1",
    }

    assert verifier.verify(delivery(BODY, headers), ("secret",)) == Verified(0)
