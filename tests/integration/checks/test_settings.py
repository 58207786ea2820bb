from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from django_idempotency.checks.settings import check_settings

from .messages import ids, only


def principal(request: object) -> str:
    return "everybody"


NO_FUNCTION = "everybody"

WRONG = [
    ("IDEMPOTENCY_HEADER", "Idempotency_Key", "E001"),
    ("IDEMPOTENCY_HEADER", "HTTP_IDEMPOTENCY_KEY", "E001"),
    ("IDEMPOTENCY_HEADER", "http-idempotency-key", "E001"),
    ("IDEMPOTENCY_HEADER", "Idempotency Key", "E001"),
    ("IDEMPOTENCY_HEADER", "Idempotency-Key:", "E001"),
    ("IDEMPOTENCY_HEADER", "", "E001"),
    ("IDEMPOTENCY_HEADER", None, "E001"),
    ("IDEMPOTENCY_REPLAYED_HEADER", "Idempotency_Replayed", "E002"),
    ("IDEMPOTENCY_REPLAYED_HEADER", 5, "E002"),
    ("IDEMPOTENCY_WAIT", 5, "E003"),
    ("IDEMPOTENCY_WAIT", None, "E003"),
    ("IDEMPOTENCY_WAIT", timedelta(seconds=-1), "E003"),
    ("IDEMPOTENCY_RETENTION", 86400, "E003"),
    ("IDEMPOTENCY_RETENTION", timedelta(0), "E003"),
    ("IDEMPOTENCY_RETENTION", timedelta(days=-1), "E003"),
    ("IDEMPOTENCY_RETENTION", timedelta(hours=23), "W004"),
    ("IDEMPOTENCY_PRINCIPAL", "nowhere.principal", "E005"),
    ("IDEMPOTENCY_PRINCIPAL", f"{__name__}.missing", "E005"),
    ("IDEMPOTENCY_PRINCIPAL", "principal", "E005"),
    ("IDEMPOTENCY_PRINCIPAL", len, "E005"),
    ("IDEMPOTENCY_PRINCIPAL", f"{__name__}.NO_FUNCTION", "E005"),
    ("IDEMPOTENCY_ANONYMOUS", "forbid", "E006"),
    ("IDEMPOTENCY_MAX_BODY", "1 MiB", "E006"),
    ("IDEMPOTENCY_MAX_BODY", -1, "E006"),
    ("IDEMPOTENCY_FIELD", "", "E006"),
    ("IDEMPOTENCY_REQUIRED", "yes", "E006"),
    ("IDEMPOTENCY_COUNT_REPLAYS", None, "E006"),
    ("IDEMPOTENCY_HEADER_DENY_LIST", "Set-Cookie", "E006"),
    ("IDEMPOTENCY_HEADER_DENY_LIST", [b"Set-Cookie"], "E006"),
    ("IDEMPOTENCY_HEADER_DENY_LIST", None, "E006"),
    ("IDEMPOTENCY_PROBLEM_BASE_URL", None, "E006"),
]

RIGHT = [
    ("IDEMPOTENCY_HEADER", "Idempotency-Key"),
    ("IDEMPOTENCY_HEADER", "idempotency-key"),
    ("IDEMPOTENCY_HEADER", "X-REQUEST-TOKEN"),
    ("IDEMPOTENCY_REPLAYED_HEADER", "X-Replayed"),
    ("IDEMPOTENCY_WAIT", timedelta(0)),
    ("IDEMPOTENCY_WAIT", timedelta(milliseconds=1)),
    ("IDEMPOTENCY_RETENTION", timedelta(hours=24)),
    ("IDEMPOTENCY_PRINCIPAL", None),
    ("IDEMPOTENCY_PRINCIPAL", f"{__name__}.principal"),
    ("IDEMPOTENCY_ANONYMOUS", "refuse"),
    ("IDEMPOTENCY_MAX_BODY", 0),
    ("IDEMPOTENCY_FIELD", "once"),
    ("IDEMPOTENCY_REQUIRED", False),
    ("IDEMPOTENCY_COUNT_REPLAYS", False),
    ("IDEMPOTENCY_HEADER_DENY_LIST", []),
    ("IDEMPOTENCY_HEADER_DENY_LIST", {"Set-Cookie"}),
    ("IDEMPOTENCY_PROBLEM_BASE_URL", ""),
]


def name_ids(rows: list[Any]) -> list[str]:
    return [f"{row[0].removeprefix('IDEMPOTENCY_').lower()}-{row[1]}" for row in rows]


each_wrong_value = pytest.mark.parametrize(
    ("name", "value"), [row[:2] for row in WRONG], ids=name_ids(WRONG)
)


def test_settings_as_they_come_are_right() -> None:
    assert check_settings(None) == []


@pytest.mark.parametrize(("name", "value", "expected"), WRONG, ids=name_ids(WRONG))
def test_wrong_value_has_an_id(name: str, value: object, expected: str) -> None:
    with override_settings(**{name: value}):
        assert ids(check_settings(None)) == [expected]


@each_wrong_value
def test_message_names_the_setting_and_its_value(name: str, value: object) -> None:
    with override_settings(**{name: value}):
        assert f"{name} = {value!r} " in only(check_settings(None)).msg


@each_wrong_value
def test_hint_pasted_into_the_settings_is_right(name: str, value: object) -> None:
    with override_settings(**{name: value}):
        pasted: dict[str, Any] = {}
        exec(str(only(check_settings(None)).hint), pasted)  # noqa: S102
    if name == "IDEMPOTENCY_PRINCIPAL":  # the project's own module, as the hint says
        pasted[name] = f"{__name__}.{pasted[name].rpartition('.')[2]}"
    with override_settings(**{name: pasted[name]}):
        assert check_settings(None) == []


@pytest.mark.parametrize(("name", "value"), RIGHT, ids=name_ids(RIGHT))
def test_right_value_is_not_complained_about(name: str, value: object) -> None:
    with override_settings(**{name: value}):
        assert check_settings(None) == []


@pytest.mark.parametrize(
    ("value", "likely"),
    [
        ("Idempotency_Key", "Idempotency-Key"),
        ("HTTP_IDEMPOTENCY_KEY", "Idempotency-Key"),
        ("Idempotency Key", "Idempotency-Key"),
        ("HTTP_X_REQUEST_TOKEN", "X-Request-Token"),
    ],
)
def test_hint_spells_the_header_that_was_meant(value: str, likely: str) -> None:
    """FR-059."""
    with override_settings(IDEMPOTENCY_HEADER=value):
        assert only(check_settings(None)).hint == f'IDEMPOTENCY_HEADER = "{likely}"'


def test_every_wrong_setting_is_named_at_once() -> None:
    with override_settings(
        IDEMPOTENCY_HEADER="Idempotency_Key",
        IDEMPOTENCY_WAIT=5,
        IDEMPOTENCY_RETENTION=0,
        IDEMPOTENCY_REQUIRED=None,
    ):
        assert ids(check_settings(None)) == ["E001", "E003", "E003", "E006"]
