from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import override_settings

from django_idempotency.conf import DEFAULT_HEADER_DENY_LIST, Settings, conf

DEFAULTS: dict[str, object] = {
    "IDEMPOTENCY_HEADER": "Idempotency-Key",
    "IDEMPOTENCY_REPLAYED_HEADER": "Idempotency-Replayed",
    "IDEMPOTENCY_FIELD": "idempotency_key",
    "IDEMPOTENCY_REQUIRED": True,
    "IDEMPOTENCY_WAIT": timedelta(seconds=5),
    "IDEMPOTENCY_RETENTION": timedelta(hours=48),
    "IDEMPOTENCY_EVENT_RETENTION": timedelta(days=35),
    "IDEMPOTENCY_MAX_BODY": 1024 * 1024,
    "IDEMPOTENCY_ANONYMOUS": "allow",
    "IDEMPOTENCY_PRINCIPAL": None,
    "IDEMPOTENCY_COUNT_REPLAYS": True,
    "IDEMPOTENCY_HEADER_DENY_LIST": DEFAULT_HEADER_DENY_LIST,
    "IDEMPOTENCY_OUTSIDE_CALLS": "ignore",
    "IDEMPOTENCY_PROBLEM_BASE_URL": (
        "https://django-idempotency.readthedocs.io/en/stable/reference/problems.html#"
    ),
}


def test_every_setting_is_known_here() -> None:
    assert {name for name in vars(Settings) if name.isupper()} == set(DEFAULTS)


@pytest.mark.parametrize("name", DEFAULTS)
def test_default(name: str) -> None:
    assert getattr(conf, name) == DEFAULTS[name]


@pytest.mark.parametrize("name", DEFAULTS)
def test_setting_is_read_at_use(name: str) -> None:
    value = object()

    with override_settings(**{name: value}):
        assert getattr(conf, name) is value


@pytest.mark.parametrize("name", DEFAULTS)
def test_setting_says_what_it_is(name: str) -> None:
    assert vars(Settings)[name].__doc__.endswith(".")


@pytest.mark.parametrize(
    "header",
    [
        "Set-Cookie",
        "Date",
        "Server",
        "Content-Length",
        "Authorization",
        "WWW-Authenticate",
        "Connection",
        "Transfer-Encoding",
        "Keep-Alive",
    ],
)
def test_header_of_one_exchange_is_denied_by_default(header: str) -> None:
    assert header in DEFAULT_HEADER_DENY_LIST


@pytest.mark.parametrize(
    "header", ["Content-Encoding", "Vary", "Content-Type", "Location", "ETag", "Link"]
)
def test_header_of_the_answer_is_not_denied(header: str) -> None:
    assert header not in DEFAULT_HEADER_DENY_LIST
