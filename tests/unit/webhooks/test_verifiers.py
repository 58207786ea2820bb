"""What is verified, and what is refused, whoever sends it and without an exception."""

import base64
import hashlib
import hmac
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given, settings
from hypothesis import strategies as st

from django_idempotency.webhooks import providers
from django_idempotency.webhooks.deliveries import Rejected, Verified, Verifier
from django_idempotency.webhooks.profiles import Profile
from django_idempotency.webhooks.verifiers import (
    AdyenVerifier,
    HMACVerifier,
    StandardWebhooksLibraryVerifier,
    StandardWebhooksVerifier,
    StripeLibraryVerifier,
    TwilioVerifier,
)
from tests.support.cases import cases

from .deliveries import (
    BODY,
    KEY,
    NOW,
    STANDARD,
    STRIPE,
    WHSEC,
    delivery,
    standard_headers,
    stripe_signed,
)
from .test_vectors import VECTORS

ALL: dict[str, Verifier] = {
    name: vars(providers)[name].verifier
    for name in providers.__all__
    if hasattr(vars(providers)[name], "verifier")
} | {
    "Stripe's library": StripeLibraryVerifier(),
    "Standard Webhooks' library": StandardWebhooksLibraryVerifier(),
}
STANDARD_HEADERS = ["webhook-id", "webhook-timestamp", "webhook-signature"]
HEADERS = {
    "ADYEN": [],
    "GITHUB": ["X-Hub-Signature-256"],
    "GOCARDLESS": ["Webhook-Signature"],
    "PADDLE": ["Paddle-Signature"],
    "RAZORPAY": ["X-Razorpay-Signature"],
    "SHOPIFY": ["X-Shopify-Hmac-Sha256"],
    "SLACK": ["X-Slack-Signature", "X-Slack-Request-Timestamp"],
    "SQUARE": ["x-square-hmacsha256-signature"],
    "STANDARD_WEBHOOKS": STANDARD_HEADERS,
    "Standard Webhooks' library": STANDARD_HEADERS,
    "STRIPE": ["Stripe-Signature"],
    "Stripe's library": ["Stripe-Signature"],
    "SVIX": ["svix-id", "svix-timestamp", "svix-signature"],
    "TWILIO": ["X-Twilio-Signature"],
}
PLAIN = HMACVerifier(header="X-Signature", prefix="sha256=")
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


each_verifier = pytest.mark.parametrize("name", list(ALL))


@cases("value", HOSTILE)
@each_verifier
def test_hostile_header_is_refused(name: str, value: str) -> None:
    """F21: refused, nothing raised, and no secret is told to the log."""
    headers = dict.fromkeys(HEADERS[name], value)
    verdict = ALL[name].verify(delivery(BODY, headers), SECRETS)

    assert isinstance(verdict, Rejected)
    assert not [each for each in SECRETS if each in verdict.reason.split()]
    assert BODY.decode() not in verdict.reason


@each_verifier
def test_nothing_is_verified_without_header_or_secret(name: str) -> None:  # F21
    headers = dict.fromkeys(HEADERS[name], str(NOW))

    assert isinstance(ALL[name].verify(delivery(BODY), SECRETS), Rejected)
    assert isinstance(ALL[name].verify(delivery(BODY, headers), ()), Rejected)


@each_verifier
@settings(deadline=None)  # other tests may keep the machine busy
@given(data=st.data())
def test_no_verifier_raises(name: str, data: st.DataObject) -> None:  # F21
    text = st.text() | st.sampled_from([str(NOW), "v1,", f"t={NOW},v1=", "sha256="])
    headers = {header: data.draw(text) for header in HEADERS[name]}
    body = data.draw(st.binary() | st.just(b'{"notificationItems":[1]}'))
    secrets = tuple(data.draw(st.lists(st.text() | st.sampled_from(SECRETS))))
    url = data.draw(st.text())

    verdict = ALL[name].verify(delivery(body, headers, url=url), secrets)

    assert isinstance(verdict, Rejected)


@pytest.mark.parametrize(
    ("age", "verdict"),
    [
        (299, Verified(0)),
        (300, Verified(0)),
        (301, Rejected("timestamp")),
        (3600, Rejected("timestamp")),
    ],
)
@pytest.mark.parametrize("direction", [-1, 1], ids=["past", "future"])
def test_timestamp_counts_in_both_directions(
    direction: int, age: int, verdict: Verified | Rejected
) -> None:
    """F19: Stripe's own library lets any future pass."""
    timestamp = str(NOW + direction * age)
    sent = delivery(BODY, standard_headers(timestamp=timestamp))

    assert STRIPE.verify(stripe_signed(timestamp=timestamp), ("whsec_1",)) == verdict
    assert STANDARD.verify(sent, (WHSEC,)) == verdict


@pytest.mark.parametrize(
    "timestamp",
    ["1e9", "nan", " 1700000000", "1700000000.5", "+1700000000", "1_700_000_000", ""],
)
def test_timestamp_is_plain_seconds_even_if_it_is_signed(timestamp: str) -> None:  # F21
    sent = stripe_signed(timestamp=timestamp)

    assert STRIPE.verify(sent, ("whsec_1",)) == Rejected("timestamp")


def test_two_timestamps_are_refused() -> None:
    """The one that is judged need not be the one that is signed."""
    sent = stripe_signed(value="t={t},t={t},v1={good}")

    assert STRIPE.verify(sent, ("whsec_1",)) == Rejected("timestamp")


NO_TIME = timedelta(0)
BOTH = "{timestamp}{body}"


@cases(
    "options",
    {
        "F19 tolerance of zero": {
            "signed": BOTH,
            "timestamp_header": "T",
            "tolerance": NO_TIME,
        },
        "tolerance of a timestamp that isn't signed": {
            "tolerance": timedelta(minutes=5)
        },
        "signed timestamp of any age": {"signed": BOTH, "timestamp_header": "T"},
        "signed field of any age": {
            "signed": BOTH,
            "timestamp_field": "t",
            "signature_field": "v1",
        },
        "timestamp that isn't signed": {"timestamp_header": "T"},
        "timestamp that is nowhere": {"signed": BOTH},
        "body that isn't signed": {"signed": "{timestamp}", "timestamp_header": "T"},
        "unknown placeholder": {"signed": "{id}.{body}"},
        "signature that is nowhere": {"signed": BOTH, "timestamp_field": "t"},
        "two places of the timestamp": {
            "signed": BOTH,
            "timestamp_field": "t",
            "signature_field": "v1",
            "timestamp_header": "T",
        },
    },
)
def test_verifier_that_protects_too_little_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured):
        HMACVerifier(header="X", **options)


@pytest.mark.parametrize("tolerance", [NO_TIME, timedelta(seconds=-1)])
def test_tolerance_that_is_none_is_refused(tolerance: timedelta) -> None:  # F19
    with pytest.raises(ImproperlyConfigured):
        StandardWebhooksVerifier(tolerance=tolerance)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"", b"\0", b"[" * 100_000])
def test_bytes_are_signed_whatever_they_are(body: bytes) -> None:
    """FR-093, F22: verifying doesn't parse; what can't be read is refused later."""
    assert STRIPE.verify(stripe_signed(body), ("whsec_1",)) == Verified(0)


@pytest.mark.parametrize(
    "body", [b'{"a":1}', b'{"a": 1}\n', b'{ "a": 1}', b'{"a": 1.0}']
)
def test_body_that_was_written_again_is_refused(body: bytes) -> None:
    """F18, FR-093: only the bytes that were signed are verified."""
    sent = replace(stripe_signed(b'{"a": 1}'), body=body)

    assert STRIPE.verify(sent, ("whsec_1",)) == Rejected("signature")


@cases(
    "verifier, secret",
    {
        "space": (PLAIN, " "),
        "hexadecimal space": (replace(PLAIN, key_encoding="hex"), " "),
        "prefix only": (STANDARD, "whsec_"),
        "padding only": (STANDARD, "whsec_===="),
        "no base64": (STANDARD, "whsec_!-!-"),
    },
)
def test_empty_key_verifies_nothing(verifier: Verifier, secret: str) -> None:
    """F47: a setting that was left at its placeholder must not let everybody in."""
    digest = hmac.digest(b"", BODY, "sha256")
    headers = {
        "X-Signature": f"sha256={digest.hex()}",
        **standard_headers(_signed_with(b"")),
    }

    assert isinstance(verifier.verify(delivery(BODY, headers), (secret,)), Rejected)


def _signed_with(key: bytes) -> str:
    """The entry of a sender who has only this key."""
    message = f"msg_1.{NOW}.".encode() + BODY
    return "v1," + base64.b64encode(hmac.digest(key, message, "sha256")).decode()


def test_public_key_is_no_secret() -> None:
    """The official library would take it for one, and everybody knows it."""
    public = "whpk_" + base64.b64encode(KEY).decode()
    forged = _signed_with(KEY)
    headers = standard_headers(f"{forged} {forged.replace('v1,', 'v1a,')}")

    assert STANDARD.verify(delivery(BODY, headers), (public,)) == Rejected(
        "signature; secret 0 isn't an ed25519 key"
    )


def test_ed25519_needs_its_package_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    vector = VECTORS["V4 Svix, ed25519"]
    sent = delivery(vector.body, vector.headers, received_at=vector.at)
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)

    assert vector.profile.verifier.verify(sent, (vector.secret,)) == Rejected(
        "signature; secret 0 needs the package cryptography: "
        "pip install django-idempotency[crypto]"
    )


FAMILIES = {"webhook": providers.STANDARD_WEBHOOKS, "svix": providers.SVIX}


@pytest.mark.parametrize("change", ["id", "timestamp", "signature"])
@pytest.mark.parametrize(
    ("family", "other"), [("webhook", "svix"), ("svix", "webhook")]
)
def test_headers_of_two_families_never_mix(
    family: str, other: str, change: str
) -> None:
    """Else a delivery could be sent again under an id of the sender's choice."""
    verifier = FAMILIES[family].verifier
    headers = standard_headers(family=family)
    moved = {**headers, f"{other}-{change}": headers[f"{family}-{change}"]}
    del moved[f"{family}-{change}"]

    assert verifier.verify(delivery(BODY, headers), (WHSEC,)) == Verified(0)
    assert verifier.verify(delivery(BODY, moved), (WHSEC,)) == (
        Rejected("no signature")
    )


@cases(
    "profile, name, verdict",
    {
        "its own": (providers.STANDARD_WEBHOOKS, "webhook-id", "signature"),
        "beside it": (providers.SVIX, "svix-id", "no signature"),
    },
)
def test_captured_delivery_under_another_id_is_refused(
    profile: Profile, name: str, verdict: str
) -> None:
    """The ``webhook-…`` headers are right, and the id is the sender's choice."""
    sent = delivery(BODY, {**standard_headers(), name: "msg_2"})

    assert profile.verifier.verify(sent, (WHSEC,)) == Rejected(verdict)


ADYEN_KEY = "AB" * 32


def _item(**changes: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "pspReference": "psp_1",
        "originalReference": "",
        "merchantAccountCode": "Shop",
        "merchantReference": "order:1",
        "amount": _euros(1130),
        "eventCode": "AUTHORISATION",
        "success": "true",
    }
    return item | changes


def _euros(value: Any) -> dict[str, Any]:
    return {"value": value, "currency": "EUR"}


def _signature(item: dict[str, Any]) -> str:
    # In the order in which `_item` has them; of the amount, its two parts.
    fields = [
        str(part)
        for value in item.values()
        for part in (value.values() if isinstance(value, dict) else [value])
    ]
    message = ":".join(fields).encode()
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
    forged = {**_signed(_item()), "amount": _euros(1)}

    assert _adyen(good, good) == Verified(0)
    assert _adyen(good, forged) == Rejected("signature")
    assert _adyen(forged, good) == Rejected("signature")


@cases(
    "item",
    {
        "no additionalData": _item(),
        "no signature": _item(additionalData={}),
        "signature null": _item(additionalData={"hmacSignature": None}),
        "signature empty": _item(additionalData={"hmacSignature": ""}),
        "additionalData no object": _item(additionalData=[]),
        "amount null": _signed(_item()) | {"amount": None},
        "amount as text": _signed(_item()) | {"amount": _euros("1130")},
        "amount with a fraction": _signed(_item()) | {"amount": _euros(1130.0)},
        "amount as truth": _signed(_item(amount=_euros(True))),
        "success as truth": _signed(_item(success=True)),
        "reference null": _signed(_item(merchantReference=None)),
        "list": [],
        "null": None,
    },
)
def test_item_of_adyen_that_is_not_as_signed_is_refused(item: Any) -> None:  # F21
    assert isinstance(_adyen(item), Rejected)


@cases(
    "body",
    {
        "empty": b"",
        "no UTF-8": b"\xff",
        "no items": b'{"notificationItems": []}',
        "object": b'{"notificationItems": {}}',
        "null": b'{"notificationItems": [null]}',
        "deep": b"[" * 200_000,
    },
)
def test_body_without_items_is_refused(body: bytes) -> None:  # F21
    assert isinstance(AdyenVerifier().verify(delivery(body), (ADYEN_KEY,)), Rejected)


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
    assert _adyen(_signed(_item(**changes))) == Rejected("fields")


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
def test_twilio_signs_with_or_without_the_port(seen: str, signed: str) -> None:  # F37
    headers = _twilio_signature(f"{signed}AaBb")
    sent = delivery(b"B=b&A=a", headers, url=seen)

    assert TwilioVerifier().verify(sent, ("12345",)) == Verified(0)


def test_digest_of_twilio_covers_the_body() -> None:
    digest = hashlib.sha256(BODY).hexdigest()
    url = f"https://shop.example/t?bodySHA256={digest}"
    headers = _twilio_signature(url)

    good, bad = (
        TwilioVerifier().verify(delivery(body, headers, url=url), ("12345",))
        for body in (BODY, BODY + b" ")
    )

    assert (good, bad) == (Verified(0), Rejected("body digest"))


BY_TIME = HMACVerifier(
    header="X-Signature",
    signed="{timestamp}.{body}",
    timestamp_header="X-Time",
    tolerance=timedelta(minutes=5),
)
AGES = {"now": 0, "late": 299, "too late": 301, "early": -299, "too early": -301}
SPELLINGS: dict[str, Callable[[datetime], str]] = {
    "seconds": lambda instant: str(int(instant.timestamp())),
    "milliseconds": lambda instant: str(int(instant.timestamp() * 1000)),
    "ISO 8601 UTC": lambda instant: f"{instant:%Y-%m-%dT%H:%M:%SZ}",
    "ISO 8601 parts of a second": lambda instant: (
        f"{instant:%Y-%m-%dT%H:%M:%S.000123Z}"
    ),
    "ISO 8601 without a zone": lambda instant: f"{instant:%Y-%m-%dT%H:%M:%S}",
    "ISO 8601 elsewhere": lambda instant: instant.astimezone(
        timezone(timedelta(hours=-8))
    ).isoformat(),
}


@pytest.mark.parametrize("age", list(AGES))
@cases("spelled", SPELLINGS)
def test_signed_timestamp_is_read_however_it_is_spelled(
    spelled: Callable[[datetime], str], age: str
) -> None:
    text = spelled(datetime.fromtimestamp(NOW - AGES[age], UTC))
    signature = BY_TIME.sign("secret", BODY, timestamp=text)
    sent = delivery(BODY, {"X-Signature": signature, "X-Time": text})

    assert BY_TIME.verify(sent, ("secret",)) == (
        Rejected("timestamp") if age.startswith("too") else Verified(0)
    )


@pytest.mark.parametrize(
    "text",
    [
        *(
            "0",
            "-1",
            "1e9",
            f"0{NOW}",
            f"+{NOW}",
            f" {NOW}",
            f"{NOW}.5",
            f"{NOW}000000",
        ),
        *("2023-11-14", "2023-11-14T22:13", "14.11.2023", "2023-13-14T22:13:20Z"),
        *("2023-11-14T22:13:20+99:00", "2023-11-14T22:13:20Z ", "T", "\0", "١٦"),
    ],
)
def test_signed_timestamp_that_cant_be_read_is_refused(text: str) -> None:
    signature = BY_TIME.sign("secret", BODY, timestamp=text)
    sent = delivery(BODY, {"X-Signature": signature, "X-Time": text})

    assert BY_TIME.verify(sent, ("secret",)) == Rejected("timestamp")


# Rotation: while a secret is changed, deliveries signed with either are verified.

BAD = "0" * 64


@cases(
    "value, verdict",
    {
        "F15 bad,good": (f"t={{t}},v1={BAD},v1={{good}}", Verified(0)),
        "F15 good,bad": (f"t={{t}},v1={{good}},v1={BAD}", Verified(0)),
        "F15 bad,bad,good": (f"t={{t}},v1={BAD},v1={BAD},v1={{good}}", Verified(0)),
        # Stripe's own for test events, and no substitute.
        "F15 other scheme": (f"t={{t}},v0={{good}},v1={BAD}", Rejected("signature")),
    },
)
def test_any_of_several_signatures_counts(value: str, verdict: object) -> None:
    """During rotation Stripe signs with both secrets."""
    sent = stripe_signed(value=value)

    assert providers.STRIPE.verifier.verify(sent, ("whsec_1",)) == verdict


@pytest.mark.parametrize(
    "value", ["sha256={bad}, sha256={good}", "sha256={good},sha256={bad}"]
)
def test_header_sent_twice_counts_if_one_is_right(value: str) -> None:
    """F17: WSGI joins the two by a comma."""
    text = value.format(good=PLAIN.sign("secret", BODY), bad=BAD)
    sent = delivery(BODY, {"X-Signature": text})

    assert PLAIN.verify(sent, ("secret",)) == Verified(0)


@cases(
    "unusable",
    {
        "no key": "whsec_",
        "no base64": "whsec_!!!!",
        "no ASCII": "whsec_é",
        "no public key": "whpk_",
        "short key": "whpk_AAAA",
        "space": " ",
    },
)
def test_secret_that_cannot_be_used_hides_no_other(unusable: str) -> None:
    """F15: nor does a signature; the header is a list that a space separates."""
    value = f"v1,{BAD} v2,new v1a,{BAD} nonsense {{good}}"
    sent = delivery(BODY, standard_headers(value))

    assert STANDARD.verify(sent, (unusable, WHSEC)) == Verified(1)


def test_log_says_which_secret_cannot_be_used_and_not_what_it_is() -> None:
    verifier = replace(PLAIN, key_encoding="hex")
    sent = delivery(BODY, {"X-Signature": f"sha256={BAD}"})

    assert verifier.verify(sent, ("hunter2", "  ", "AB")) == Rejected(
        "signature; secret 0 isn't hexadecimal; secret 1 is blank"
    )
