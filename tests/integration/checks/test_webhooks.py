"""What is said of a webhook endpoint that would lose events, or repeat them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.core.checks import CheckMessage
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import override_settings

from django_idempotency.checks.databases import check_databases, check_live_databases
from django_idempotency.checks.urls import check_placements
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, WebhookView, on, webhook
from django_idempotency.webhooks.profiles import Profile
from django_idempotency.webhooks.providers import (
    GITHUB,
    SQUARE,
    STRIPE,
    TWILIO,
)

from .messages import ids, only
from .views import Only


def handler(event: Event) -> None: ...


def said_of(view: Callable[..., Any]) -> list[CheckMessage]:
    with override_settings(ROOT_URLCONF=Only(view)):
        return check_placements(None)


def said_of_webhook(profile: Profile, **options: Any) -> list[CheckMessage]:
    declared = {"secrets": "secret", "endpoint": "checked", **options}
    return said_of(webhook(profile, **declared)(handler))


def test_webhook_that_keeps_its_promise_is_not_complained_about() -> None:
    assert said_of_webhook(STRIPE) == []


def test_provider_that_never_sends_again_needs_the_inbox() -> None:  # F35
    message = only(said_of_webhook(GITHUB))

    assert ids([message]) == ["E030"]
    assert 'endpoint="checked", inbox=True)' in str(message.hint)


def test_inbox_is_enough_for_a_provider_that_never_sends_again() -> None:
    assert said_of_webhook(GITHUB, inbox=True) == []


def no_secret() -> str:
    raise ImproperlyConfigured("Set the STRIPE_WEBHOOK_SECRET environment variable")


@pytest.mark.parametrize(
    ("secrets", "fault"),
    [
        pytest.param("", "has no secret", id="empty"),
        pytest.param("  ", "has no secret", id="blank"),
        pytest.param([], "has no secret", id="none"),
        pytest.param(["", ""], "has no secret", id="several-empty"),
        pytest.param(None, "has no secret", id="unset"),
        pytest.param(no_secret, "STRIPE_WEBHOOK_SECRET", id="raises"),
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


def test_address_that_is_told_is_not_complained_about() -> None:
    url = "https://shop.example/webhooks/square/"

    assert said_of_webhook(SQUARE, inbox=True, url=url) == []


def test_class_is_checked_like_a_function() -> None:
    class Pushes(WebhookView):
        profile = GITHUB
        secrets = "secret"
        endpoint = "checked-class"

        @on("push")
        def pushed(self, event: Event) -> None: ...

    assert ids(said_of(Pushes.as_view())) == ["E030"]


# Databases


class EventsInOther:
    """A database router."""

    def db_for_write(self, model: type[Any], **hints: Any) -> str | None:
        return "other" if model is ProcessedEvent else None


@pytest.fixture
def events_in_other(monkeypatch: pytest.MonkeyPatch) -> Any:
    settings = dict(connections.settings["default"])
    monkeypatch.setitem(connections.settings, "other", settings)
    with override_settings(DATABASE_ROUTERS=[f"{__name__}.EventsInOther"]):
        yield
    del connections["other"]


@pytest.mark.postgresql
@pytest.mark.usefixtures("events_in_other")
def test_events_in_another_database_than_the_models_do_not_commit_with_them() -> None:
    """F44."""
    message = only(check_databases(None))

    assert (ids([message]), "'other'" in message.msg) == (["W010"], True)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_update_without_migration_is_said() -> None:
    table = ProcessedEvent._meta.db_table
    with connections["default"].schema_editor() as editor:
        editor.alter_db_table(ProcessedEvent, table, "moved_away")
    try:
        messages = check_live_databases(None, databases=["default"])
    finally:
        with connections["default"].schema_editor() as editor:
            editor.alter_db_table(ProcessedEvent, "moved_away", table)

    missing = [each for each in messages if each.id == "django_idempotency.W014"]
    assert table in only(missing).msg
