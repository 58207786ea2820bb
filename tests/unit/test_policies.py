from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import override_settings

from django_idempotency.policies import IdempotencyPolicy, PolicyOptions, keep_outcomes

RELEASED = {405, 406, 408, 413, 415, 425, 429}


@pytest.mark.parametrize("status", range(100, 600))
def test_default_keeps_what_is_an_outcome(status: int) -> None:
    kept = status < 500 and status not in RELEASED

    assert keep_outcomes(HttpResponse(status=status)) is kept


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        pytest.param({"wait": 5}, r"wait=timedelta\(seconds=5\)", id="wait-number"),
        pytest.param(
            {"wait": timedelta(-1)}, "longer than nothing", id="wait-negative"
        ),
        pytest.param({"wait": "5s"}, "has no unit", id="wait-text"),
        pytest.param({"retention": 60.0}, "has no unit", id="retention-number"),
        pytest.param({"retention": 0}, "has no unit", id="retention-zero-number"),
        pytest.param(
            {"retention": timedelta(0)}, "longer than nothing", id="retention-zero"
        ),
        pytest.param(
            {"retention": timedelta(hours=-1)},
            "longer than nothing",
            id="retention-negative",
        ),
        pytest.param({"exclude": "nonce"}, r"exclude=\('nonce',\)", id="exclude-text"),
        pytest.param({"max_body": -1}, "number of bytes", id="max-body-negative"),
        pytest.param({"max_body": "1 MiB"}, "number of bytes", id="max-body-text"),
        pytest.param({"max_body": 1.5}, "number of bytes", id="max-body-fraction"),
        pytest.param({"keep": {200}}, "must be a function", id="keep-statuses"),
        pytest.param({"fingerprint": "body"}, "must be a function", id="fingerprint"),
    ],
)
def test_value_that_cannot_be_meant_is_refused_where_it_is_written(
    options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=sentence):
        IdempotencyPolicy(**options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"wait": timedelta(0)}, id="not-to-wait"),
        pytest.param({"retention": timedelta(microseconds=1)}, id="short-retention"),
        pytest.param({"max_body": 0}, id="keep-only-empty-bodies"),
        pytest.param({"exclude": ["nonce"]}, id="exclude-list"),
        pytest.param({"exclude": {"nonce"}}, id="exclude-set"),
        pytest.param({"exclude": ()}, id="exclude-nothing"),
    ],
)
def test_value_at_the_border_is_taken(options: PolicyOptions) -> None:
    ((name, value),) = options.items()

    assert getattr(IdempotencyPolicy(**options), name) == value


EFFECTIVE = {
    "key_required": ("IDEMPOTENCY_REQUIRED", True, False),
    "effective_wait": ("IDEMPOTENCY_WAIT", timedelta(seconds=5), timedelta(seconds=2)),
    "effective_retention": (
        "IDEMPOTENCY_RETENTION",
        timedelta(hours=48),
        timedelta(days=7),
    ),
    "effective_max_body": ("IDEMPOTENCY_MAX_BODY", 1024 * 1024, 10),
}


@pytest.mark.parametrize("name", EFFECTIVE)
def test_without_a_value_the_default_of_the_setting_holds(name: str) -> None:
    _, default, _ = EFFECTIVE[name]

    assert getattr(IdempotencyPolicy(), name) == default


@pytest.mark.parametrize("name", EFFECTIVE)
def test_without_a_value_the_setting_holds_at_use(name: str) -> None:
    setting, _, value = EFFECTIVE[name]
    policy = IdempotencyPolicy()

    with override_settings(**{setting: value}):
        assert getattr(policy, name) == value


@pytest.mark.parametrize(
    ("options", "name"),
    [
        pytest.param({"required": False}, "key_required", id="required"),
        pytest.param({"wait": timedelta(0)}, "effective_wait", id="wait"),
        pytest.param(
            {"retention": timedelta(1)}, "effective_retention", id="retention"
        ),
        pytest.param({"max_body": 0}, "effective_max_body", id="max-body"),
    ],
)
@override_settings(
    IDEMPOTENCY_REQUIRED=True,
    IDEMPOTENCY_WAIT=timedelta(9),
    IDEMPOTENCY_RETENTION=timedelta(9),
    IDEMPOTENCY_MAX_BODY=9,
)
def test_value_of_the_policy_beats_the_setting(
    options: PolicyOptions, name: str
) -> None:
    (value,) = options.values()

    assert getattr(IdempotencyPolicy(**options), name) == value


def test_policy_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        IdempotencyPolicy().required = False  # type: ignore[misc]


def test_policy_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        IdempotencyPolicy(True)  # type: ignore[call-arg]


def test_options_are_the_fields_of_the_policy() -> None:
    assert list(PolicyOptions.__annotations__) == list(
        IdempotencyPolicy.__dataclass_fields__
    )
