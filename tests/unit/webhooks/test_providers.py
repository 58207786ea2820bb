"""The profiles, field by field, with a delivery of each provider's shape."""

import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from django_idempotency.webhooks import providers, verifiers
from django_idempotency.webhooks.profiles import Found, Profile, Reply

from .deliveries import delivery

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


def test_every_profile_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(PROFILES)


def test_names_are_unique() -> None:
    assert len({profile.name for profile in PROFILES.values()}) == len(PROFILES)


@pytest.mark.parametrize(("name", "days"), [("GITHUB", 3), ("TWILIO", 1 / 24)])
def test_what_is_never_sent_again_can_be_asked_for(name: str, days: float) -> None:
    """So long; the reference says "never", and the rest of a profile."""
    profile = PROFILES[name]

    assert (profile.retries, profile.retry_horizon) == (False, timedelta(days=days))


def test_slack_s_own_test_is_answered() -> None:  # F45
    challenge = providers.SLACK.challenge
    assert challenge is not None

    asked = challenge({"type": "url_verification", "challenge": "abc"})
    assert (asked, challenge({"type": "event_callback"})) == (Reply(body="abc"), None)


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
        "yes" if profile.id_is_signed else "**no**",
        "yes" if profile.items else "no",
        _duration(profile.acknowledge_within),
        _duration(profile.retry_horizon) if profile.retries else "**never**",
        f"{profile.success.status}{success}",
        str(profile.rejected_status),
        f"{profile.max_body // MEBIBYTE} MiB",
    ]
    return f"| {' | '.join(cells)} |"


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
