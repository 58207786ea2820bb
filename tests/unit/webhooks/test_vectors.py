"""The providers' own test vectors, and two that were computed.

V11 to V13 sign payload files that aren't part of this project.
"""

# ruff: noqa: S106 - these secrets are published

import json
from dataclasses import dataclass, field, replace

import pytest

from django_idempotency.webhooks import providers
from django_idempotency.webhooks.deliveries import Rejected, Verified
from django_idempotency.webhooks.profiles import Profile
from django_idempotency.webhooks.verifiers import HMACVerifier
from tests.support.cases import cases

from .deliveries import delivery

TWILIO_URL = "https://mycompany.com/myapp.php?foo=1&bar=2"
TWILIO_CALL = (
    b"CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309"
    b"&To=%2B18005551212&Caller=%2B14158675309"
)


@dataclass(frozen=True, kw_only=True)
class Vector:
    profile: Profile
    secret: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    url: str = ""
    at: int = 0


def _adyen_body() -> bytes:
    item = {
        "pspReference": "7914073381342284",
        "merchantAccountCode": "TestMerchant",
        "merchantReference": "TestPayment-1407325143704",
        "amount": {"value": 1130, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
        "additionalData": {
            "hmacSignature": "coqCmt/IZ4E3CzPvMY8zTjQVL5hYJUiBRg8UU+iCWo0="
        },
    }
    return json.dumps(
        {"live": "false", "notificationItems": [{"NotificationRequestItem": item}]}
    ).encode()


def _standard(signature: str) -> dict[str, str]:
    return {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": signature,
    }


def _svix(signature: str) -> dict[str, str]:
    return {
        name.replace("webhook-", "svix-"): value
        for name, value in _standard(signature).items()
    }


def _twilio(
    signature: str, *, url: str = TWILIO_URL, body: bytes = TWILIO_CALL
) -> Vector:
    return Vector(
        profile=providers.TWILIO,
        secret="12345",
        url=url,
        body=body,
        headers={"X-Twilio-Signature": signature},
    )


V3_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

V3 = Vector(
    profile=providers.STANDARD_WEBHOOKS,
    secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    body=b'{"test": 2432232314}',
    headers=_standard(V3_SIGNATURE),
    at=1614265330,
)
VECTORS = {
    "V1 GitHub": Vector(
        profile=providers.GITHUB,
        secret="It's a Secret to Everybody",
        body=b"Hello, World!",
        headers={
            "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        },
    ),
    "V2 Slack": Vector(
        profile=providers.SLACK,
        secret="8f742231b10e8888abcd99yyyzzz85a5",
        body=(
            b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow"
            b"&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA"
            b"&user_name=roadrunner&command=%2Fwebhook-collect&text="
            b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J"
            b"%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
            b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
        ),
        headers={
            "X-Slack-Request-Timestamp": "1531420618",
            "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        at=1531420618,
    ),
    "V3 Standard Webhooks": V3,
    "V3 Svix": replace(V3, profile=providers.SVIX, headers=_svix(V3_SIGNATURE)),
    "V4 Svix, ed25519": replace(
        V3,
        profile=providers.SVIX,
        secret="whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4=",
        headers=_svix(
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
        ),
    ),
    "V5 Square": Vector(
        profile=providers.SQUARE,
        secret="Ibxx_5AKakO-3qeNVR61Dw",
        url="https://webhook.site/679a4f3a-dcfa-49ee-bac5-9d0edad886b9",
        body=(
            b'{"merchant_id":"MLEFBHHSJGVHD","type":"webhooks.test_notification",'
            b'"event_id":"ac3ac95b-f97d-458c-a6e6-18981597e05f",'
            b'"created_at":"2022-07-13T20:30:59.037339943Z",'
            b'"data":{"type":"webhooks","id":"bc368e64-01aa-407e-b46e-3231809b1129"}}'
        ),
        headers={
            "x-square-hmacsha256-signature": "GF4YkrJgGBDZ9NIYbNXBnMzqb2HoL4RW/S6vkZ9/2N4="
        },
    ),
    "V6 Square, escaping": Vector(
        profile=providers.SQUARE,
        secret="signature-key",
        url="https://webhook.site/webhooks",
        body=b'{"data":{"type":"webhooks","id":">id<"}}',
        headers={
            "x-square-hmacsha256-signature": "Cxt7+aTi4rKgcA0bC4g9EHdVtLSDWdqccmL5MvihU4U="
        },
    ),
    "V7 Adyen": Vector(
        profile=providers.ADYEN,
        secret="44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056",
        body=_adyen_body(),
    ),
    "V8 Paddle": Vector(
        profile=providers.PADDLE,
        secret="pdl_ntf_01hbpjmytsa32fhr36nqgc3kgb_WvRO0eL4Bj9rgYYIBZY6wZhG4EHy9jzh",
        body=b"hello-world",
        headers={
            "Paddle-Signature": "ts=1696195954;h1=dummy;h1=d96299976a6eb066f484d7fde011ac56fc32b38fc9940bc419d6e537fdc6ef02"
        },
        at=1696195954,
    ),
    "V9 Twilio": _twilio("RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    "V9 Twilio, signed with the port": _twilio("kvajT1Ptam85bY51eRf/AJRuM3w="),
    "V9 Twilio, signed without the port": _twilio(
        "RSOYDt4T1cUTdK1PDd93/VVr8B8=", url=TWILIO_URL.replace(".com/", ".com:443/")
    ),
    "V9 Twilio, repeated parameters": _twilio(
        "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
        body=b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
    ),
    "V10 Twilio, JSON": _twilio(
        "a9nBmqA0ju/hNViExpshrM61xv4=",
        url=f"{TWILIO_URL}&bodySHA256=0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620",
        body=b'{"property": "value", "boolean": true}',
    ),
    "C1 Stripe": Vector(
        profile=providers.STRIPE,
        secret="whsec_test_secret",
        body=b'{"id":"evt_test_webhook","type":"invoice.paid"}',
        headers={
            "Stripe-Signature": "t=1604612047,v1=d34131c5cfbb5fc93150de1c55c498a30288f795a8ca95c79ca95571fc37e14e"
        },
        at=1604612047,
    ),
    "C2 Shopify": Vector(
        profile=providers.SHOPIFY,
        secret="test-webhook-secret",
        body=b'{"id":1234567890,"email":"customer@example.com","total_price":"123.45"}',
        headers={
            "X-Shopify-Hmac-Sha256": "QNyObTlKbMx2qDlPF/ZOZcBqg5OgPg+2oky3zldc0Gw="
        },
    ),
}

each_vector = cases("vector", VECTORS)


def _verify(vector: Vector, *secrets: str) -> Verified | Rejected:
    sent = delivery(vector.body, vector.headers, url=vector.url, received_at=vector.at)
    return vector.profile.verifier.verify(sent, secrets or (vector.secret,))


@each_vector
def test_vector_is_verified(vector: Vector) -> None:
    assert _verify(vector) == Verified(0)


def _another_secret(vector: Vector) -> str:
    if vector.profile in (providers.ADYEN, providers.TWILIO):
        return "99" + vector.secret
    other = vector.secret.swapcase().replace("WHSEC_", "whsec_")
    return other.replace("WHPK_", "whpk_")


@each_vector
def test_vector_is_refused_under_another_secret(vector: Vector) -> None:
    assert isinstance(_verify(vector, _another_secret(vector)), Rejected)


@each_vector
def test_old_secret_counts_until_it_is_removed(vector: Vector) -> None:
    """F16: most sign with one secret, and what is queued keeps the old one."""
    assert _verify(vector, _another_secret(vector), vector.secret) == Verified(1)
    assert _verify(vector, vector.secret, _another_secret(vector)) == Verified(0)


@each_vector
def test_vector_is_refused_with_another_body(vector: Vector) -> None:
    changed = vector.body + b"x"
    if vector.profile is providers.ADYEN:
        changed = vector.body.replace(b"1130", b"1131")

    assert isinstance(_verify(replace(vector, body=changed)), Rejected)


@pytest.mark.parametrize("name", ["V5 Square", "V9 Twilio"])
def test_vector_is_refused_at_another_address(name: str) -> None:
    """F37: behind a proxy, the address that the provider has is verified."""
    elsewhere = replace(VECTORS[name], url="http://app:8000/hook/")

    assert isinstance(_verify(elsewhere), Rejected)


def test_wrong_signature_of_the_suites_is_refused() -> None:
    """V3: the last but one letter is another."""
    headers = _standard(V3_SIGNATURE.replace("1OE=", "1OA="))
    vector = replace(VECTORS["V3 Standard Webhooks"], headers=headers)

    assert _verify(vector) == Rejected("signature")


@pytest.mark.parametrize(
    ("provider", "header"),
    [
        (providers.GOCARDLESS, "Webhook-Signature"),
        (providers.RAZORPAY, "X-Razorpay-Signature"),
    ],
    ids=["V11's scheme: GoCardless", "V12's scheme: Razorpay, newline kept"],
)
def test_body_is_signed_with_its_last_newline(provider: Profile, header: str) -> None:
    """F18, V12: what a parser would call the same body is another one."""
    body = b'{"event": "payment.authorized"}\n'
    headers = {header: HMACVerifier(header="X-Signature").sign("key_secret", body)}
    verdicts = [
        provider.verifier.verify(delivery(each, headers), ("key_secret",))
        for each in (body, body.strip())
    ]

    assert verdicts == [Verified(0), Rejected("signature")]
