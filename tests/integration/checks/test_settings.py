import re
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.http import HttpRequest
from django.test import override_settings

from django_idempotency.checks.settings import check_settings
from django_idempotency.http import Identified, principal_of
from tests.support.cases import cases

from .messages import ids, only


def principal(request: object) -> str:
    return "everybody"


path = problem_response = principal


NO_FUNCTION = "everybody"

# By setting; what is said of each value.
WRONG_VALUES: dict[str, dict[str, list[Any]]] = {
    "HEADER": {
        "E001": [
            *("Idempotency_Key", "HTTP_IDEMPOTENCY_KEY", "http-idempotency-key"),
            *("Idempotency Key", "Idempotency-Key:", "", None),
        ]
    },
    "REPLAYED_HEADER": {"E002": ["Idempotency_Replayed", 5]},
    "WAIT": {"E003": [5, None, timedelta(seconds=-1)]},
    "RETENTION": {
        "E003": [86400, timedelta(0), timedelta(days=-1)],
        "W004": [timedelta(hours=23)],
    },
    **{
        name: {
            "E005": [
                *("nowhere.principal", "principal", len),
                *(f"{__name__}.missing", f"{__name__}.NO_FUNCTION"),
            ]
        }
        for name in ("PRINCIPAL", "PATH", "PROBLEM_RESPONSE")
    },
    "TOMBSTONE": {"E003": [365, None, timedelta(days=-1)]},
    "INTENT_WINDOW": {
        "E003": [30, None, timedelta(seconds=-1)],
        "E058": [timedelta(hours=48)],
    },
    "ANONYMOUS": {"E006": ["forbid"]},
    "MAX_BODY": {"E006": ["1 MiB", -1]},
    "MAX_REQUEST_BODY": {"E006": ["1 MiB", -1]},
    "FIELD": {"E006": [""]},
    "REQUIRED": {"E006": ["yes"]},
    "COUNT_REPLAYS": {"E006": [None]},
    "FIND_CALLS": {"E006": [None]},
    "STATISTICS": {"E006": [None, "yes"]},
    "HEALTH_TOKEN": {"E006": ["", "short", b"x" * 16, 7]},
    "STATISTICS_RETENTION": {"E003": [90, timedelta(0)]},
    "HEADER_DENY_LIST": {"E006": ["Set-Cookie", [b"Set-Cookie"], None]},
    "PROBLEM_BASE_URL": {"E006": [None]},
    "PROFILE": {"E006": ["paypal", "ACP", {}, True]},
    "ECHO_KEY": {"E006": [None, "yes"]},
    "COMPARE": {"E006": [None, "headers"]},
    "KEEP_ERRORS": {"E006": [None, "yes"]},
}
WRONG = [
    (f"IDEMPOTENCY_{name}", value, expected)
    for name, said in WRONG_VALUES.items()
    for expected, values in said.items()
    for value in values
]
RIGHT_VALUES: dict[str, list[Any]] = {
    "HEADER": ["Idempotency-Key", "idempotency-key", "X-REQUEST-TOKEN"],
    "REPLAYED_HEADER": ["X-Replayed"],
    "WAIT": [timedelta(0), timedelta(milliseconds=1)],
    "RETENTION": [timedelta(hours=24)],
    "TOMBSTONE": [timedelta(0), timedelta(days=365)],
    "INTENT_WINDOW": [timedelta(0), timedelta(seconds=30)],
    "PRINCIPAL": [None, f"{__name__}.principal"],
    "PATH": [None, f"{__name__}.path"],
    "ANONYMOUS": ["refuse"],
    "MAX_BODY": [0],
    "MAX_REQUEST_BODY": [0, None],
    "FIELD": ["once"],
    "REQUIRED": [False],
    "COUNT_REPLAYS": [False],
    "FIND_CALLS": [False],
    "STATISTICS": [False],
    "HEALTH_TOKEN": [None, "x" * 16],
    "STATISTICS_RETENTION": [timedelta(days=1)],
    "HEADER_DENY_LIST": [[], {"Set-Cookie"}],
    "PROBLEM_BASE_URL": [""],
}
RIGHT = [
    (f"IDEMPOTENCY_{name}", value)
    for name, values in RIGHT_VALUES.items()
    for value in values
]


def name_ids(rows: list[Any]) -> list[str]:
    return [f"{row[0].removeprefix('IDEMPOTENCY_').lower()}-{row[1]}" for row in rows]


def test_settings_as_they_come_are_right() -> None:
    assert check_settings(None) == []


@pytest.mark.parametrize(("name", "value", "expected"), WRONG, ids=name_ids(WRONG))
def test_wrong_value_has_an_id_and_a_message_that_says_what_should_be(
    name: str, value: object, expected: str
) -> None:
    with override_settings(**{name: value}):
        message = only(check_settings(None))

    assert ids([message]) == [expected]
    assert f"{name} = {value!r} " in message.msg
    assert re.search(r"\b(must|should)\b", message.msg)


@pytest.mark.parametrize(
    ("name", "value"), [row[:2] for row in WRONG], ids=name_ids(WRONG)
)
def test_hint_pasted_into_the_settings_is_right(name: str, value: object) -> None:
    with override_settings(**{name: value}):
        pasted: dict[str, Any] = {}
        exec(str(only(check_settings(None)).hint), pasted)  # noqa: S102
    if "yourproject" in str(pasted[name]):  # the project's own module, as the hint says
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


# What would silently do nothing, or the wrong thing, and raise no error


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("IDEMPOTENCY_HEADERS", "IDEMPOTENCY_HEADER"),
        ("IDEMPOTENCY_TTL_RETENTION", "IDEMPOTENCY_RETENTION"),
        ("IDEMPOTENCY_WAIT_TIME", "IDEMPOTENCY_WAIT"),
        ("IDEMPOTENCY_PRINCIPLE", "IDEMPOTENCY_PRINCIPAL"),
    ],
)
def test_misspelt_setting_is_reported_with_the_line_to_write(
    name: str, meant: str
) -> None:
    with override_settings(**{name: "x"}):
        message = only(check_settings(None))

    assert ids([message]) == ["W007"]
    assert message.msg.startswith(f"{name} isn't a setting of django_idempotency")
    assert message.hint == f"{meant} = 'x'"


def test_settings_of_others_are_left_alone() -> None:
    with override_settings(IDEMPOTENT="x", MY_IDEMPOTENCY_WAIT="x"):
        assert check_settings(None) == []


def merging(request: HttpRequest) -> str:
    return Identified(f"key:{request.headers.get('X-Api-Key')}")


def careful(request: HttpRequest) -> str:
    sent = request.headers.get("X-Api-Key")
    return Identified(f"key:{sent}") if sent else principal_of(request)


def needy(request: Any) -> str:
    return Identified(f"account:{request.account.pk}")


@pytest.mark.parametrize(
    ("hook", "said"),
    [(merging, ["W008"]), (careful, []), (needy, [])],
)
def test_hook_that_identifies_strangers_is_reported(hook: Any, said: list[str]) -> None:
    with override_settings(IDEMPOTENCY_PRINCIPAL=f"{__name__}.{hook.__name__}"):
        messages = check_settings(None)

    assert ids(messages) == said
    assert all("principal_of(request)" in str(each.hint) for each in messages)


class Halving:
    def encode(self, data: bytes, context: str) -> bytes:
        return data[::2]

    decode = encode


class Failing(Halving):
    def decode(self, data: bytes, context: str) -> bytes:
        raise OSError


FERNET = "django_idempotency.contrib.fernet.FernetCodec"
KEY = Fernet.generate_key().decode()


@cases(
    "expected, codec, keys",
    {
        "none": (None, None, ()),
        "ours": (None, FERNET, [KEY, Fernet.generate_key()]),
        "not there": ("E049", "nowhere.Codec", ()),
        "no path": ("E049", 7, ()),
        "no codec": ("E049", "json.JSONDecoder", ()),
        "no function of a codec": ("E049", f"{__name__}.principal", ()),
        "other bytes": ("E050", f"{__name__}.Halving", ()),
        "failing": ("E050", f"{__name__}.Failing", ()),
        "no keys": ("E050", FERNET, ()),
        "one text": ("E050", FERNET, KEY),
        "short key": ("E050", FERNET, [KEY, "secret"]),
        "no text": ("E050", FERNET, [7]),
        "keys alone": ("W051", None, [KEY]),
    },
)
def test_codec_is_tried(
    expected: str | None, codec: Any, keys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "IDEMPOTENCY_BODY_CODEC": codec,
        "IDEMPOTENCY_BODY_KEYS": keys,
    }
    with override_settings(**given):
        messages = check_settings(None)
        assert ids(messages) == [*filter(None, [expected])]
        if not messages:
            return
        assert re.search(r"\b(must|should)\b", messages[0].msg)
        assert KEY not in repr(messages)
        monkeypatch.setenv("IDEMPOTENCY_BODY_KEYS", KEY)
        pasted: dict[str, Any] = {}
        exec(str(messages[0].hint), pasted)  # noqa: S102
    names = {each: pasted[each] for each in pasted if each.startswith("IDEMPOTENCY")}
    fitting = {"IDEMPOTENCY_BODY_CODEC": FERNET, "IDEMPOTENCY_BODY_KEYS": [KEY]}
    with override_settings(
        **{**given, **(names if codec == FERNET else fitting | names)}
    ):
        assert check_settings(None) == []
