from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Warning
from django.utils.module_loading import import_string

from django_idempotency.conf import conf

SHORTEST_SAFE_RETENTION = timedelta(hours=24)
"""How long Stripe remembers a key: retries can honestly come that late."""

IMPORT = "from datetime import timedelta\n\n"

# A field name of HTTP (RFC 9110, 5.6.2), less what servers drop or fold.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")


def check_settings(
    app_configs: Collection[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check what the settings say, without asking anybody else."""
    return [
        *_header("IDEMPOTENCY_HEADER", "Idempotency-Key", "E001"),
        *_header("IDEMPOTENCY_REPLAYED_HEADER", "Idempotency-Replayed", "E002"),
        *_durations(),
        *_retention(),
        *_principal(),
        *_values(),
    ]


def _header(name: str, example: str, number: str) -> Iterator[CheckMessage]:
    value: object = getattr(conf, name)
    if (
        isinstance(value, str)
        and _HEADER_NAME.fullmatch(value)
        and value.lower() not in ("content-length", "content-type")
        and not value.upper().startswith("HTTP-")
    ):
        return
    likely = example
    if isinstance(value, str):
        words = re.findall(r"[A-Za-z0-9]+", re.sub(r"^HTTP[_-]", "", value, flags=re.I))
        likely = "-".join(words).title() or example
    yield Error(
        f"{name} = {value!r} is no header that a request can carry: names on the wire "
        "have dashes, no underscores, no blanks and no HTTP_ prefix. Every key would "
        "be overlooked.",
        hint=f'{name} = "{likely}"',
        id=f"django_idempotency.{number}",
    )


def _durations() -> Iterator[CheckMessage]:
    for name, zero_allowed, example in (
        ("IDEMPOTENCY_WAIT", True, "seconds=5"),
        ("IDEMPOTENCY_RETENTION", False, "hours=48"),
        ("IDEMPOTENCY_EVENT_RETENTION", False, "days=35"),
    ):
        value: object = getattr(conf, name)
        if isinstance(value, timedelta):
            if value > timedelta(0) or (zero_allowed and not value):
                continue
            fault = "can't be meant: it is not longer than nothing"
        else:
            fault = "has no unit"
        yield Error(
            f"{name} = {value!r} {fault}.",
            hint=f"{IMPORT}{name} = timedelta({example})",
            id="django_idempotency.E003",
        )


def _retention() -> Iterator[CheckMessage]:
    value: object = conf.IDEMPOTENCY_RETENTION
    if isinstance(value, timedelta) and timedelta(0) < value < SHORTEST_SAFE_RETENTION:
        yield Warning(
            f"IDEMPOTENCY_RETENTION = {value!r} is shorter than a day: a retry that "
            "comes later runs again, although the payment provider may still know "
            "its key.",
            hint=f"{IMPORT}IDEMPOTENCY_RETENTION = timedelta(hours=48)",
            id="django_idempotency.W004",
        )


def _principal() -> Iterator[CheckMessage]:
    path = conf.IDEMPOTENCY_PRINCIPAL
    if path is None:
        return
    try:
        hook = import_string(path)
    except (ImportError, AttributeError, TypeError) as error:
        fault = f"can't be imported: {error}"
    else:
        if callable(hook):
            return
        fault = "is no function"
    yield Error(
        f"IDEMPOTENCY_PRINCIPAL = {path!r} {fault}.",
        hint='IDEMPOTENCY_PRINCIPAL = "yourproject.idempotency.principal"'
        "  # def principal(request) -> str",
        id="django_idempotency.E005",
    )


def _values() -> Iterator[CheckMessage]:
    rules: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
        (
            "IDEMPOTENCY_ANONYMOUS",
            lambda value: value in ("allow", "refuse"),
            'IDEMPOTENCY_ANONYMOUS = "refuse"  # or "allow"',
        ),
        (
            "IDEMPOTENCY_MAX_BODY",
            lambda value: isinstance(value, int) and value >= 0,
            "IDEMPOTENCY_MAX_BODY = 1024 * 1024  # bytes",
        ),
        (
            "IDEMPOTENCY_FIELD",
            lambda value: isinstance(value, str) and value != "",
            'IDEMPOTENCY_FIELD = "idempotency_key"',
        ),
        ("IDEMPOTENCY_REQUIRED", _is_bool, "IDEMPOTENCY_REQUIRED = True"),
        ("IDEMPOTENCY_COUNT_REPLAYS", _is_bool, "IDEMPOTENCY_COUNT_REPLAYS = True"),
        (
            "IDEMPOTENCY_HEADER_DENY_LIST",
            lambda value: not isinstance(value, str) and _are_strings(value),
            "from django_idempotency.conf import DEFAULT_HEADER_DENY_LIST\n"
            "IDEMPOTENCY_HEADER_DENY_LIST = "
            '[*DEFAULT_HEADER_DENY_LIST, "X-Request-Id"]',
        ),
        (
            "IDEMPOTENCY_OUTSIDE_CALLS",
            lambda value: value in ("ignore", "log", "raise"),
            'IDEMPOTENCY_OUTSIDE_CALLS = "raise"  # or "log", or "ignore"',
        ),
        (
            "IDEMPOTENCY_PROBLEM_BASE_URL",
            lambda value: isinstance(value, str),
            'IDEMPOTENCY_PROBLEM_BASE_URL = "https://example.com/problems#"',
        ),
    )
    for name, is_right, line in rules:
        value = getattr(conf, name)
        if not is_right(value):
            yield Error(
                f"{name} = {value!r} can't be meant.",
                hint=line,
                id="django_idempotency.E006",
            )


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _are_strings(value: Any) -> bool:
    return isinstance(value, Collection) and all(
        isinstance(each, str) for each in value
    )
