"""The profiles, field by field, with a delivery of each provider's shape."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

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


def _found(
    profile: Profile, content: dict[str, Any], headers: dict[str, str] | None = None
) -> Found:
    body = urlencode(content) if profile.is_form else json.dumps(content)
    sent = delivery(body.encode(), headers)
    (found,) = profile.events(sent, profile.parse(sent))
    return found


ADYEN_ITEM = {
    "pspReference": "psp_1",
    "merchantAccountCode": "Shop",
    "eventCode": "AUTHORISATION",
    "success": "true",
    "eventDate": "2026-11-02T10:00:00+01:00",
}
CASES: dict[str, tuple[dict[str, Any], dict[str, str], tuple[str, str, str, str]]] = {
    "STRIPE": (
        {
            "id": "evt_1",
            "object": "event",
            "type": "invoice.paid",
            "account": "acct_1",
            "livemode": False,
            "created": 1_700_000_000,
            "data": {"object": {"id": "in_1"}},
        },
        {},
        ("evt_1", "invoice.paid", "acct_1:false", "in_1"),
    ),
    "STRIPE thin": (
        {
            "id": "evt_2",
            "object": "v2.core.event",
            "type": "v1.invoice.paid",
            "context": "acct_1",
            "livemode": True,
            "created": "2026-11-02T10:00:00Z",
            "related_object": {"id": "in_1"},
        },
        {},
        ("evt_2", "v1.invoice.paid", "acct_1:true", "in_1"),
    ),
    "STANDARD_WEBHOOKS": (
        {"type": "user.made", "timestamp": "2026-11-02T10:00:00Z"},
        {"webhook-id": "msg_1"},
        ("msg_1", "user.made", "", ""),
    ),
    "SVIX": (
        {"type": "user.made", "timestamp": "2026-11-02T10:00:00Z"},
        {"svix-id": "msg_1", "webhook-id": "msg_2"},
        ("msg_1", "user.made", "", ""),
    ),
    "GITHUB": (
        {"action": "opened"},
        {
            "X-GitHub-Delivery": "guid",
            "X-GitHub-Event": "issues",
            "X-GitHub-Hook-ID": "7",
        },
        ("guid", "issues", "7", ""),
    ),
    "SHOPIFY": (
        {"id": 1},
        {
            "X-Shopify-Event-Id": "e-1",
            "X-Shopify-Webhook-Id": "w-1",
            "X-Shopify-Topic": "orders/paid",
            "X-Shopify-Shop-Domain": "a.myshopify.com",
            "X-Shopify-Triggered-At": "2026-11-02T10:00:00.123456789Z",
        },
        ("e-1:orders/paid", "orders/paid", "a.myshopify.com", ""),
    ),
    "SQUARE": (
        {
            "merchant_id": "M1",
            "type": "payment.updated",
            "event_id": "e-1",
            "created_at": "2026-11-02T10:00:00.039337943Z",
            "data": {"type": "payment", "id": "p-1"},
        },
        {},
        ("e-1", "payment.updated", "M1", "p-1"),
    ),
    "ADYEN": (
        {
            "live": "false",
            "notificationItems": [{"NotificationRequestItem": ADYEN_ITEM}],
        },
        {},
        ("AUTHORISATION:psp_1:true", "AUTHORISATION", "Shop", "psp_1"),
    ),
    "PADDLE": (
        {
            "event_id": "evt_1",
            "notification_id": "ntf_1",
            "event_type": "transaction.paid",
            "occurred_at": "2026-11-02T10:00:00.1234Z",
            "data": {"id": "txn_1"},
        },
        {},
        ("evt_1", "transaction.paid", "", "txn_1"),
    ),
    "GOCARDLESS": (
        {
            "events": [
                {
                    "id": "EV1",
                    "created_at": "2026-11-02T10:00:00.000Z",
                    "resource_type": "payments",
                    "action": "confirmed",
                    "links": {"payment": "PM1", "organisation": "OR1"},
                }
            ],
            "meta": {"webhook_id": "WB1"},
        },
        {},
        ("EV1", "payments:confirmed", "OR1", ""),
    ),
    "RAZORPAY": (
        {
            "event": "payment.captured",
            "account_id": "acc_1",
            "created_at": 1_700_000_000,
        },
        {"x-razorpay-event-id": "e-1"},
        ("e-1", "payment.captured", "acc_1", ""),
    ),
    "SLACK": (
        {
            "team_id": "T1",
            "api_app_id": "A1",
            "event": {"type": "app_mention"},
            "type": "event_callback",
            "event_id": "Ev1",
            "event_time": 1_700_000_000,
        },
        {},
        ("Ev1", "app_mention", "T1:A1", ""),
    ),
    "TWILIO": (
        {"MessageSid": "SM1", "MessageStatus": "sent", "AccountSid": "AC1"},
        {},
        ("SM1:sent", "sent", "AC1", "SM1"),
    ),
}
WITHOUT_TIME = {"GITHUB", "TWILIO"}


@pytest.mark.parametrize("name", list(CASES))
def test_event_is_found_where_the_provider_puts_it(name: str) -> None:
    content, headers, expected = CASES[name]

    found = _found(PROFILES[name.split()[0]], content, headers)

    assert (found.id, found.type, found.account, found.object_key) == expected
    assert (found.occurred_at is None) == (name in WITHOUT_TIME)


def test_every_profile_has_a_case() -> None:
    assert {name.split()[0] for name in CASES} == set(PROFILES)


def test_topics_of_one_change_are_events_of_their_own() -> None:
    """One order that is made and paid at once is two events under one id."""
    ids = {
        _found(
            providers.SHOPIFY,
            {},
            {"X-Shopify-Event-Id": "e-1", "X-Shopify-Topic": topic},
        ).id
        for topic in ("orders/create", "orders/paid")
    }

    assert len(ids) == 2


# Sources: the providers' own pages, as the reference of providers links them.
FACTS = {
    # seconds to answer in, horizon, signed id, retries, success, refusal, body
    "STRIPE": (20, timedelta(days=3), True, True, 200, 401, 1),
    "STANDARD_WEBHOOKS": (15, timedelta(days=4), True, True, 200, 401, 1),
    "SVIX": (15, timedelta(days=4), True, True, 200, 401, 1),
    "GITHUB": (10, timedelta(days=3), False, False, 200, 401, 25),
    "SHOPIFY": (5, timedelta(hours=4), False, True, 200, 401, 10),
    "SQUARE": (10, timedelta(hours=72), True, True, 200, 401, 1),
    "ADYEN": (10, timedelta(days=30), True, True, 200, 401, 1),
    "PADDLE": (5, timedelta(days=3), True, True, 200, 401, 1),
    "GOCARDLESS": (10, timedelta(days=3), True, True, 204, 498, 1),
    "RAZORPAY": (5, timedelta(hours=24), False, True, 200, 401, 1),
    "SLACK": (3, timedelta(minutes=6), True, True, 200, 401, 1),
    "TWILIO": (15, timedelta(hours=1), True, False, 200, 401, 1),
}


@pytest.mark.parametrize("name", list(PROFILES))
def test_limits_are_the_provider_s(name: str) -> None:
    profile = PROFILES[name]

    assert FACTS[name] == (
        profile.acknowledge_within.total_seconds(),
        profile.retry_horizon,
        profile.id_is_signed,
        profile.retries,
        profile.success.status,
        profile.rejected_status,
        profile.max_body / MEBIBYTE,
    )


def test_names_are_unique() -> None:
    assert len({profile.name for profile in PROFILES.values()}) == len(PROFILES)


def test_adyen_is_told_what_it_waits_for() -> None:
    assert providers.ADYEN.success == Reply(body="[accepted]")


def test_batches_are_those_of_adyen_and_gocardless() -> None:
    batches = {name for name, profile in PROFILES.items() if profile.items}

    assert batches == {"ADYEN", "GOCARDLESS"}


def test_slack_s_own_test_is_answered() -> None:
    """F45"""
    challenge = providers.SLACK.challenge
    assert challenge is not None

    asked = challenge({"type": "url_verification", "challenge": "abc"})
    event = challenge({"type": "event_callback"})

    assert (asked, event) == (Reply(body="abc"), None)


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
