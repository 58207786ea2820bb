"""The profiles, field by field, with a delivery of each provider's shape."""

import hmac
import json
import re
from base64 import b64encode
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest

from django_idempotency.webhooks import providers, verifiers
from django_idempotency.webhooks.deliveries import Verified
from django_idempotency.webhooks.places import UnusableDelivery
from django_idempotency.webhooks.profiles import FACTS, Found, Profile, Reply
from django_idempotency.webhooks.verifiers import HMACVerifier, StandardWebhooksVerifier
from tests.support.cases import cases

from .deliveries import NOW, WHSEC, delivery

PROFILES = {
    name: profile
    for name in providers.__all__
    if isinstance(profile := vars(providers)[name], Profile)
}
MEBIBYTE = 1024 * 1024


def _found(profile: Profile, body: str, headers: dict[str, str]) -> Found:
    sent = delivery(body.encode(), headers)
    (found,) = profile.events(sent, profile.parse(sent))
    return found


# The body, the headers, and the event's id, type, account and object.
CASES: dict[str, tuple[str, dict[str, str], tuple[str, str, str, str]]] = {
    "STRIPE": (
        """{"id": "evt_1", "object": "event", "type": "invoice.paid",
        "account": "acct_1", "livemode": false, "created": 1700000000,
        "data": {"object": {"id": "in_1"}}}""",
        {},
        ("evt_1", "invoice.paid", "acct_1:false", "in_1"),
    ),
    "STRIPE thin": (
        """{"id": "evt_2", "object": "v2.core.event", "type": "v1.invoice.paid",
        "context": "acct_1", "livemode": true, "created": "2026-11-02T10:00:00Z",
        "related_object": {"id": "in_1"}}""",
        {},
        ("evt_2", "v1.invoice.paid", "acct_1:true", "in_1"),
    ),
    "STANDARD_WEBHOOKS": (
        '{"type": "user.made", "timestamp": "2026-11-02T10:00:00Z"}',
        {"webhook-id": "msg_1"},
        ("msg_1", "user.made", "", ""),
    ),
    "SVIX": (
        '{"type": "user.made", "timestamp": "2026-11-02T10:00:00Z"}',
        {"svix-id": "msg_1", "webhook-id": "msg_2"},
        ("msg_1", "user.made", "", ""),
    ),
    "GITHUB": (
        '{"action": "opened"}',
        {
            "X-GitHub-Delivery": "guid",
            "X-GitHub-Event": "issues",
            "X-GitHub-Hook-ID": "7",
        },
        ("guid", "issues", "7", ""),
    ),
    "SHOPIFY": (
        '{"id": 1}',
        {
            "X-Shopify-Event-Id": "e-1",
            "X-Shopify-Webhook-Id": "w-1",
            "X-Shopify-Topic": "orders/paid",
            "X-Shopify-Shop-Domain": "a.myshopify.com",
            "X-Shopify-Triggered-At": "2026-11-02T10:00:00.123456789Z",
        },
        # An order that is made and paid at once is two events under one id.
        ("e-1:orders/paid", "orders/paid", "a.myshopify.com", ""),
    ),
    "SQUARE": (
        """{"merchant_id": "M1", "type": "payment.updated", "event_id": "e-1",
        "created_at": "2026-11-02T10:00:00.039337943Z",
        "data": {"type": "payment", "id": "p-1"}}""",
        {},
        ("e-1", "payment.updated", "M1", "p-1"),
    ),
    "ADYEN": (
        """{"live": "false", "notificationItems": [{"NotificationRequestItem": {
        "pspReference": "psp_1", "merchantAccountCode": "Shop",
        "eventCode": "AUTHORISATION", "success": "true",
        "amount": {"value": 5, "currency": "EUR"}, "additionalData": {},
        "eventDate": "2026-11-02T10:00:00+01:00"}}]}""",
        {},
        ("AUTHORISATION:psp_1:true", "AUTHORISATION", "Shop", "psp_1"),
    ),
    "PADDLE": (
        """{"event_id": "evt_1", "notification_id": "ntf_1",
        "event_type": "transaction.paid", "occurred_at": "2026-11-02T10:00:00.1234Z",
        "data": {"id": "txn_1"}}""",
        {},
        ("evt_1", "transaction.paid", "", "txn_1"),
    ),
    "GOCARDLESS": (
        """{"events": [{"id": "EV1", "created_at": "2026-11-02T10:00:00.000Z",
        "resource_type": "payments", "action": "confirmed",
        "links": {"payment": "PM1", "organisation": "OR1"}}],
        "meta": {"webhook_id": "WB1"}}""",
        {},
        ("EV1", "payments:confirmed", "OR1", ""),
    ),
    "RAZORPAY": (
        """{"event": "payment.captured", "account_id": "acc_1",
        "created_at": 1700000000}""",
        {"x-razorpay-event-id": "e-1"},
        ("e-1", "payment.captured", "acc_1", ""),
    ),
    "SLACK": (
        """{"team_id": "T1", "api_app_id": "A1", "event": {"type": "app_mention"},
        "type": "event_callback", "event_id": "Ev1", "event_time": 1700000000}""",
        {},
        ("Ev1", "app_mention", "T1:A1", ""),
    ),
    "TWILIO": (
        "MessageSid=SM1&MessageStatus=sent&AccountSid=AC1",
        {},
        ("SM1:sent", "sent", "AC1", "SM1"),
    ),
}
WITHOUT_TIME = {"GITHUB", "TWILIO"}


@pytest.mark.parametrize("name", list(CASES))
def test_event_is_found_where_the_provider_puts_it(name: str) -> None:
    body, headers, expected = CASES[name]
    found = _found(PROFILES[name.split()[0]], body, headers)

    assert (found.id, found.type, found.account, found.object_key) == expected
    assert (found.occurred_at is None) == (name in WITHOUT_TIME)


MODES = {"STRIPE": False, "STRIPE thin": True, "ADYEN": False}


@pytest.mark.parametrize("name", list(CASES))
def test_mode_of_an_event_is_known_where_the_provider_tells_it(name: str) -> None:
    body, headers, _ = CASES[name]

    assert _found(PROFILES[name.split()[0]], body, headers).livemode is MODES.get(name)


SECRET = {"ADYEN": "AB12", "STANDARD_WEBHOOKS": WHSEC, "SVIX": WHSEC}
URL = "https://shop.example/hook/"


def _signed(name: str, body: str, headers: dict[str, str]) -> tuple[str, Any]:
    """The body and the headers of a case, with the provider's signature."""
    verifier: Any = PROFILES[name].verifier
    secret, now = SECRET.get(name, "secret"), str(NOW)
    if name == "ADYEN":
        signed = "psp_1::Shop::5:EUR:AUTHORISATION:true"
        digest = hmac.digest(bytes.fromhex(secret), signed.encode(), "sha256")
        given = f'"additionalData": {{"hmacSignature": "{b64encode(digest).decode()}"}}'
        return body.replace('"additionalData": {}', given), headers
    if name == "TWILIO":
        pairs = "".join(key + value for key, value in sorted(parse_qsl(body)))
        digest = hmac.digest(secret.encode(), (URL + pairs).encode(), "sha1")
        return body, headers | {verifier.header: b64encode(digest).decode()}
    if isinstance(verifier, StandardWebhooksVerifier):
        family, raw = verifier.family, body.encode()
        message_id = headers[f"{family}-id"]
        entry = verifier.sign(secret, raw, message_id=message_id, timestamp=now)
        return body, headers | {
            f"{family}-timestamp": now,
            f"{family}-signature": entry,
        }
    assert isinstance(verifier, HMACVerifier)
    value = verifier.prefix + verifier.sign(
        secret, body.encode(), timestamp=now, url=URL
    )
    if verifier.signature_field:
        stamp = f"{verifier.timestamp_field}={now}{verifier.separator}"
        value = f"{stamp}{verifier.signature_field}={value}"
    times = {verifier.timestamp_header: now} if verifier.timestamp_header else {}
    return body, headers | times | {verifier.header: value}


def _with_another(
    part: str, profile: Profile, body: str, headers: dict[str, str]
) -> tuple[str, dict[str, str]]:
    """The delivery as somebody has changed it who doesn't know the secret."""
    if part.startswith("header:"):
        name = part.removeprefix("header:")
        return body, headers | {name: headers.get(name, "") + "0"}
    if profile.is_form:
        return urlencode(dict(parse_qsl(body)) | {part: "another"}), headers
    content = json.loads(body)
    at = content
    if profile.items and part not in content:
        at = content[profile.items][0]
        at = at[profile.item] if profile.item else at
    *path, last = part.split(".")
    for each in path:
        at = at.setdefault(each, {})
    at[last] = "another"
    return json.dumps(content), headers


@pytest.mark.parametrize("name", list(CASES))
def test_what_is_called_unsigned_is_what_others_can_change(name: str) -> None:
    """Also the other way round: of the rest nothing can be changed by anybody."""
    name, _, kind = name.partition(" ")
    profile = PROFILES[name]
    body, headers = _signed(name, *CASES[f"{name} {kind}".strip()][:2])

    def is_verified(body: str, headers: dict[str, str]) -> bool:
        sent = delivery(body.encode(), headers, url=URL)
        secrets = (SECRET.get(name, "secret"),)
        return isinstance(profile.verifier.verify(sent, secrets), Verified)

    def can_be_changed(fact: str) -> bool:
        place = getattr(profile, fact)
        return any(
            is_verified(*_with_another(part, profile, body, headers))
            for part in ((place,) if isinstance(place, str) else place)
        )

    assert is_verified(body, headers)
    assert profile.unsigned == {fact for fact in FACTS if can_be_changed(fact)}


class SignsNothing:
    def verify(self, delivery: Any, secrets: Any) -> Verified:
        return Verified(0)

    def signs(self, place: str) -> bool:
        return False


class SaysNothing:
    def verify(self, delivery: Any, secrets: Any) -> Verified:
        return Verified(0)


@cases(
    "verifier, unsigned",
    {"asked": (SignsNothing(), {"id", "type"}), "not asked": (SaysNothing(), {"type"})},
)
def test_own_verifier_says_what_it_signs(verifier: Any, unsigned: set[str]) -> None:
    """One that doesn't say is taken to sign the body and no header."""
    profile = Profile(name="acme", verifier=verifier, id="id", type="header:X-Type")

    assert profile.unsigned == unsigned


def test_every_profile_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(PROFILES)


def test_names_are_unique() -> None:
    assert len({profile.name for profile in PROFILES.values()}) == len(PROFILES)


@pytest.mark.parametrize(("name", "days"), [("GITHUB", 3), ("TWILIO", 1 / 24)])
def test_what_is_never_sent_again_can_be_asked_for(name: str, days: float) -> None:
    """So long; the reference says "never", and the rest of a profile."""
    profile = PROFILES[name]

    assert (profile.retries, profile.retry_horizon) == (False, timedelta(days=days))


def test_queue_of_adyen_stops_at_a_failure() -> None:
    """One that fails inline would hold back all later ones, for 30 days."""
    stopping = {name for name, each in PROFILES.items() if each.stops_at_failure}

    assert stopping == {"ADYEN"}


def test_slack_s_own_test_is_answered() -> None:  # F45
    challenge = providers.SLACK.challenge
    assert challenge is not None

    asked = challenge({"type": "url_verification", "challenge": "abc"})
    assert (asked, challenge({"type": "event_callback"})) == (Reply(body="abc"), None)
    oddities: tuple[Any, ...] = ("\ud800", {"deep": []}, None)
    for odd in oddities:
        with pytest.raises(UnusableDelivery):
            challenge({"type": "url_verification", "challenge": odd})


PAGE = (
    Path(__file__).resolve().parents[3] / "docs" / "reference" / "webhook-providers.md"
).read_text(encoding="utf-8")


def _duration(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    for unit, length in [("d", 86_400), ("h", 3_600), ("min", 60)]:
        if seconds % length == 0 and seconds > length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _row(name: str) -> str:
    """A profile as the reference has to print it."""
    profile = PROFILES[name]
    parts = (profile.id,) if isinstance(profile.id, str) else profile.id
    success = f" `{profile.success.body}`" if profile.success.body else ""
    cells = [
        f"`{name}`",
        " + ".join(f"`{part}`" for part in parts),
        ", ".join(f"`{each}`" for each in FACTS if each in profile.unsigned),
        "yes" if profile.items else "no",
        _duration(profile.acknowledge_within),
        _duration(profile.retry_horizon) if profile.retries else "**never**",
        f"{profile.success.status}{success}",
        str(profile.rejected_status),
        f"{profile.max_body // MEBIBYTE} MiB",
    ]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


@pytest.mark.parametrize("name", list(PROFILES))
def test_reference_has_the_profile_as_it_is(name: str) -> None:
    assert _row(name) in PAGE


@pytest.mark.parametrize(
    ("title", "described"),
    [
        ("Fields of a profile", Profile),
        ("Fields of `HMACVerifier`", verifiers.HMACVerifier),
    ],
    ids=["Profile", "HMACVerifier"],
)
def test_reference_has_every_field(title: str, described: Any) -> None:
    section = PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0]

    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)

    assert documented == [each.name for each in fields(described)]


def test_reference_has_every_verifier() -> None:
    documented = re.findall(r"^`(\w+Verifier)`$", PAGE, re.MULTILINE)

    assert documented == sorted(verifiers.__all__)
