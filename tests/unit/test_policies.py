from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import override_settings

from django_idempotency.conf import DEFAULT_HEADER_DENY_LIST, Settings, conf
from django_idempotency.policies import IdempotencyPolicy, PolicyOptions, keep_outcomes

RELEASED = {405, 406, 408, 413, 415, 421, 423, 424, 425, 429}

HOUR = timedelta(hours=1)


def test_default_keeps_what_is_an_outcome() -> None:
    kept = {
        each for each in range(100, 600) if keep_outcomes(HttpResponse(status=each))
    }

    assert kept == set(range(100, 500)) - RELEASED


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"wait": 5}, r"wait=timedelta\(seconds=5\)"),
        ({"wait": timedelta(-1)}, "must not be negative"),
        ({"wait": "5s"}, "must be a timedelta"),
        ({"retention": 60.0}, "must be a timedelta"),
        ({"retention": 0}, "must be a timedelta"),
        ({"retention": timedelta(0)}, "must be positive"),
        ({"retention": timedelta(hours=-1)}, "must be positive"),
        ({"lease": timedelta(0)}, "must be positive"),
        ({"lease": HOUR, "retention": HOUR}, "lease=.* must be shorter than retention"),
        ({"lease": HOUR, "retention": HOUR / 2}, "must be shorter than retention"),
        ({"exclude": "nonce"}, r"exclude=\('nonce',\)"),
        ({"max_body": -1}, "number of bytes"),
        ({"max_body": "1 MiB"}, "number of bytes"),
        ({"max_body": 1.5}, "number of bytes"),
        ({"max_request_body": -1}, "number of bytes"),
        ({"keep": {200}}, "must be a function"),
        ({"fingerprint": "body"}, "must be a function"),
    ],
    ids=str,
)
def test_value_that_cannot_be_meant_is_refused_where_it_is_written(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=sentence):
        IdempotencyPolicy(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"wait": timedelta(0)},
        {"retention": timedelta(microseconds=1)},
        {"max_body": 0},
        {"exclude": ["nonce"]},
        {"exclude": {"nonce"}},
        {"exclude": ()},
    ],
    ids=str,
)
def test_value_at_the_border_is_taken(options: PolicyOptions) -> None:
    ((name, value),) = options.items()

    assert getattr(IdempotencyPolicy(**options), name) == value


# A zero is a value, too.
EFFECTIVE = {
    "key_required": ("required", "IDEMPOTENCY_REQUIRED", True, False),
    "effective_wait": ("wait", "IDEMPOTENCY_WAIT", timedelta(seconds=5), timedelta(0)),
    "effective_retention": (
        "retention",
        "IDEMPOTENCY_RETENTION",
        timedelta(hours=48),
        timedelta(days=7),
    ),
    "effective_max_body": ("max_body", "IDEMPOTENCY_MAX_BODY", 1024 * 1024, 0),
}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_value_of_the_policy_beats_the_setting_that_holds_at_use(name: str) -> None:
    option, setting, default, value = EFFECTIVE[name]
    silent = IdempotencyPolicy()
    options: Any = {option: value}

    assert getattr(silent, name) == default
    with override_settings(**{setting: value}):
        assert getattr(silent, name) == value
    with override_settings(**{setting: default}):
        assert getattr(IdempotencyPolicy(**options), name) == value


def test_lease_is_shorter_than_the_setting_too() -> None:
    """Which is read at use; a check says it before."""
    policy = IdempotencyPolicy(lease=2 * HOUR)

    refused = pytest.raises(ImproperlyConfigured, match="must be shorter than IDEMPOT")
    with override_settings(IDEMPOTENCY_RETENTION=2 * HOUR), refused:
        _ = policy.effective_retention
    with override_settings(IDEMPOTENCY_RETENTION=3 * HOUR):
        assert policy.effective_retention == 3 * HOUR


def test_policy_is_frozen_and_takes_keywords_only() -> None:
    with pytest.raises(FrozenInstanceError):
        IdempotencyPolicy().required = False  # type: ignore[misc]
    with pytest.raises(TypeError):
        IdempotencyPolicy(True)  # type: ignore[call-arg]


def test_options_are_the_fields_of_the_policy() -> None:
    assert list(PolicyOptions.__annotations__) == list(
        IdempotencyPolicy.__dataclass_fields__
    )


# The settings, which hold where a policy is silent.

DEFAULTS: dict[str, object] = {
    "IDEMPOTENCY_HEADER": "Idempotency-Key",
    "IDEMPOTENCY_REPLAYED_HEADER": "Idempotency-Replayed",
    "IDEMPOTENCY_FIELD": "idempotency_key",
    "IDEMPOTENCY_REQUIRED": True,
    "IDEMPOTENCY_WAIT": timedelta(seconds=5),
    "IDEMPOTENCY_RETENTION": timedelta(hours=48),
    "IDEMPOTENCY_TOMBSTONE": timedelta(0),
    "IDEMPOTENCY_INTENT_WINDOW": timedelta(0),
    "IDEMPOTENCY_EVENT_RETENTION": timedelta(days=35),
    "IDEMPOTENCY_BODY_CODEC": None,
    "IDEMPOTENCY_BODY_KEYS": (),
    "IDEMPOTENCY_MAX_BODY": 1024 * 1024,
    "IDEMPOTENCY_MAX_REQUEST_BODY": 25 * 1024 * 1024,
    "IDEMPOTENCY_ANONYMOUS": "allow",
    "IDEMPOTENCY_PRINCIPAL": None,
    "IDEMPOTENCY_PATH": None,
    "IDEMPOTENCY_MOVING_FROM": None,
    "IDEMPOTENCY_COUNT_REPLAYS": True,
    "IDEMPOTENCY_DISTRIBUTED": {},
    "IDEMPOTENCY_FIND_CALLS": True,
    "IDEMPOTENCY_STATISTICS": True,
    "IDEMPOTENCY_HEALTH_TOKEN": None,
    "IDEMPOTENCY_STATISTICS_RETENTION": timedelta(days=90),
    "IDEMPOTENCY_HEADER_DENY_LIST": DEFAULT_HEADER_DENY_LIST,
    "IDEMPOTENCY_OUTSIDE_CALLS": "ignore",
    "IDEMPOTENCY_PROBLEM_BASE_URL": (
        "https://django-idempotency.readthedocs.io/en/stable/reference/problems.html#"
    ),
    "IDEMPOTENCY_PROBLEM_RESPONSE": None,
    "IDEMPOTENCY_PROFILE": None,
    "IDEMPOTENCY_ECHO_KEY": False,
    "IDEMPOTENCY_COMPARE": "request",
    "IDEMPOTENCY_KEEP_ERRORS": False,
}


def test_every_setting_is_known_here() -> None:
    assert {name for name in vars(Settings) if name.isupper()} == set(DEFAULTS)


def test_defaults_are_those_that_are_documented() -> None:
    assert {name: getattr(conf, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("name", DEFAULTS)
def test_setting_is_read_at_use_and_says_what_it_is(name: str) -> None:
    value = object()
    with override_settings(**{name: value}):
        assert getattr(conf, name) is value

    assert vars(Settings)[name].__doc__.endswith(".")


def test_headers_of_one_exchange_are_denied_by_default() -> None:
    """And none that belongs to the answer."""
    assert set(DEFAULT_HEADER_DENY_LIST) >= {
        "Set-Cookie",
        "Date",
        "Server",
        "Content-Length",
        "Authorization",
        "WWW-Authenticate",
        "Connection",
        "Transfer-Encoding",
        "Keep-Alive",
    }
    assert not set(DEFAULT_HEADER_DENY_LIST) & {
        "Content-Encoding",
        "Vary",
        "Content-Type",
        "Location",
        "ETag",
        "Link",
    }
