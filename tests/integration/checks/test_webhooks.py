"""What is said of a webhook endpoint that would lose events, or repeat them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from django_idempotency.checks.databases import check_databases
from django_idempotency.checks.urls import check_placements
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, WebhookView, on, webhook
from django_idempotency.webhooks.profiles import Profile
from django_idempotency.webhooks.providers import (
    ADYEN,
    GITHUB,
    SQUARE,
    STRIPE,
    TWILIO,
)
from tests.support.cases import cases
from tests.support.databases import Routes, alias

from .messages import ids, only
from .views import Only


def handler(event: Event) -> None: ...


def said_of(view: Callable[..., Any]) -> list[CheckMessage]:
    with override_settings(ROOT_URLCONF=Only(view)):
        return check_placements(None)


def said_of_webhook(profile: Profile, **options: Any) -> list[CheckMessage]:
    declared = {"secrets": "secret", "endpoint": "checked", **options}
    return said_of(webhook(profile, **declared)(handler))


RIGHT: dict[str, tuple[Profile, dict[str, Any]]] = {
    "as-it-should-be": (STRIPE, {}),
    "inbox-for-what-is-never-sent-again": (GITHUB, {"inbox": True}),
    "inbox-for-a-queue-that-stops": (ADYEN, {"inbox": True}),
    "address-that-is-told": (
        SQUARE,
        {"inbox": True, "url": "https://shop.example/webhooks/square/"},
    ),
}


@cases("profile, options", RIGHT)
def test_webhook_that_keeps_its_promise_is_not_complained_about(
    profile: Profile, options: dict[str, Any]
) -> None:
    assert said_of_webhook(profile, **options) == []


@cases(
    "changes, said",
    {
        "key alone": ({}, ["E053"]),
        "reference": ({"reference": "data.object.metadata.cart"}, []),
    },
)
def test_webhook_that_settles_by_a_key_needs_the_keys_kept(
    changes: dict[str, Any], said: list[str], settings: Any
) -> None:
    profile = replace(STRIPE, **changes)
    options: dict[str, Any] = {"settles": "charge", "result": str}
    assert said_of_webhook(profile, **options) == []

    settings.IDEMPOTENCY_FIND_CALLS = False
    assert ids(said_of_webhook(profile, **options)) == said


def test_provider_that_never_sends_again_needs_the_inbox() -> None:  # F35
    message = only(said_of_webhook(GITHUB))

    assert ids([message]) == ["E030"]
    assert 'endpoint="checked", inbox=True)' in str(message.hint)


def test_queue_that_stops_at_a_failure_needs_the_inbox() -> None:
    message = only(said_of_webhook(ADYEN))

    assert ids([message]) == ["W038"]
    assert 'endpoint="checked", inbox=True)' in str(message.hint)


def no_secret() -> str:
    raise ImproperlyConfigured("Set the STRIPE_WEBHOOK_SECRET environment variable")


@pytest.mark.parametrize(
    ("secrets", "fault"),
    [
        *((each, "has none") for each in ("", "  ", [], ["", ""], None)),
        (no_secret, "STRIPE_WEBHOOK_SECRET"),
    ],
)
def test_webhook_needs_a_secret(secrets: Any, fault: str) -> None:
    message = only(said_of_webhook(STRIPE, secrets=secrets))

    assert (ids([message]), fault in message.msg) == (["E031"], True)


@pytest.mark.parametrize(
    ("horizon", "expected"), [(34, []), (35, ["W032"]), (60, ["W032"])]
)
def test_events_are_remembered_longer_than_they_are_sent(
    horizon: int, expected: list[str]
) -> None:  # FR-074
    profile = replace(STRIPE, retry_horizon=timedelta(days=horizon))

    assert ids(said_of_webhook(profile)) == expected


def test_retention_without_a_unit_is_left_to_its_own_check() -> None:
    with override_settings(IDEMPOTENCY_EVENT_RETENTION=35):
        assert said_of_webhook(STRIPE) == []


def test_line_to_paste_makes_the_memory_long_enough() -> None:
    with override_settings(IDEMPOTENCY_EVENT_RETENTION=timedelta(days=2)):
        message = only(said_of_webhook(STRIPE))

    days = STRIPE.retry_horizon.days + 5
    assert f"IDEMPOTENCY_EVENT_RETENTION = timedelta(days={days})" in str(message.hint)


@pytest.mark.parametrize("profile", [SQUARE, TWILIO], ids=lambda each: each.name)
def test_address_that_is_signed_has_to_be_told(profile: Profile) -> None:
    message = only(said_of_webhook(profile, inbox=True))

    assert ids([message]) == ["W033"]
    assert 'url="https://' in str(message.hint)


def test_class_is_checked_like_a_function() -> None:
    class Pushes(WebhookView):
        profile = GITHUB
        secrets = "secret"
        endpoint = "checked-class"

        @on("push")
        def pushed(self, event: Event) -> None: ...

    assert ids(said_of(Pushes.as_view())) == ["E030"]


# Databases


class EventsInOther(Routes):
    def _is_sent(self, model: Any) -> bool:
        return model is ProcessedEvent


@pytest.mark.postgresql
def test_events_in_another_database_than_the_models_do_not_commit_with_them() -> None:
    """F44."""
    with alias("other"), EventsInOther.sending(read="other", write="other"):
        message = only(check_databases(None))

    assert (ids([message]), "'other'" in message.msg) == (["W010"], True)
