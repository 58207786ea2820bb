from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from difflib import get_close_matches
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest
from django.utils.module_loading import import_string

from django_idempotency.conf import (
    LONGEST_WAIT,
    PROFILES,
    Settings,
    conf,
    fault_of_duration,
)
from django_idempotency.core.at_rest import MAKE_KEYS, codec_at
from django_idempotency.http import Identified
from django_idempotency.http.moving import old_store
from django_idempotency.store.dialects import DISTRIBUTED

PREFIX = "IDEMPOTENCY_"

OF_OLD_PACKAGES = "IDEMPOTENCY_KEY"
"""What the settings of packages begin with that a project may be moving away from."""

SHORTEST_SAFE_RETENTION = timedelta(hours=24)
"""How long Stripe remembers a key; a legitimate retry can come that late."""

FERNET = "django_idempotency.contrib.fernet.FernetCodec"
"""It needs `pip install "django-idempotency[crypto]"`."""

IMPORT = "from datetime import timedelta\n\n"

# A field name of HTTP (RFC 9110, 5.6.2), less what servers drop or fold.
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^`|~-]+")


def check_settings(
    app_configs: Collection[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check the settings alone; this needs no database and no URLconf."""
    return [
        *_header("IDEMPOTENCY_HEADER", "Idempotency-Key", "E001"),
        *_header("IDEMPOTENCY_REPLAYED_HEADER", "Idempotency-Replayed", "E002"),
        *_durations(),
        *_retention(),
        *_window(),
        *_hooks(),
        *_moving(),
        *_values(),
        *_codec(),
        *_unknown(),
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
        f"{name} = {value!r} must be a header name as clients send it: with hyphens, "
        "and without underscores, spaces or the prefix HTTP_. Otherwise every key is "
        "overlooked.",
        hint=f'{name} = "{likely}"',
        id=f"django_idempotency.{number}",
    )


def _durations() -> Iterator[CheckMessage]:
    wait: dict[str, Any] = {"zero_allowed": True, "longest": LONGEST_WAIT}
    for name, limits, example in (
        ("IDEMPOTENCY_WAIT", wait, "seconds=5"),
        ("IDEMPOTENCY_RETENTION", {}, "hours=48"),
        ("IDEMPOTENCY_TOMBSTONE", {"zero_allowed": True}, "days=365"),
        ("IDEMPOTENCY_INTENT_WINDOW", {"zero_allowed": True}, "seconds=30"),
        ("IDEMPOTENCY_EVENT_RETENTION", {}, "days=35"),
        ("IDEMPOTENCY_STATISTICS_RETENTION", {}, "days=90"),
    ):
        value: object = getattr(conf, name)
        if fault := fault_of_duration(value, **limits):
            yield Error(
                f"{name} = {value!r} {fault}.",
                hint=f"{IMPORT}{name} = timedelta({example})",
                id="django_idempotency.E003",
            )


def _retention() -> Iterator[CheckMessage]:
    value: object = conf.IDEMPOTENCY_RETENTION
    if isinstance(value, timedelta) and timedelta(0) < value < SHORTEST_SAFE_RETENTION:
        yield Warning(
            f"IDEMPOTENCY_RETENTION = {value!r} should be at least a day: a retry "
            "that comes after it runs again, although the payment provider may still "
            "know the key.",
            hint=f"{IMPORT}IDEMPOTENCY_RETENTION = timedelta(hours=48)",
            id="django_idempotency.W004",
        )


def _window() -> Iterator[CheckMessage]:
    window: object = conf.IDEMPOTENCY_INTENT_WINDOW
    retention: object = conf.IDEMPOTENCY_RETENTION
    if not (isinstance(window, timedelta) and isinstance(retention, timedelta)):
        return
    if window >= retention > timedelta(0):
        yield Error(
            f"IDEMPOTENCY_INTENT_WINDOW = {window!r} must be shorter than "
            f"IDEMPOTENCY_RETENTION, {retention!r}: what is forgotten can't be asked "
            "about, and it is meant for seconds.",
            hint=f"{IMPORT}IDEMPOTENCY_INTENT_WINDOW = timedelta(seconds=30)",
            id="django_idempotency.E058",
        )


def _hooks() -> Iterator[CheckMessage]:
    hooks = {
        "PRINCIPAL": "(request) -> str",
        "PATH": "(request) -> str",
        "PROBLEM_RESPONSE": "(request, problem) -> HttpResponse | None",
    }
    for name, signature in hooks.items():
        path: Any = getattr(conf, PREFIX + name)
        if path is None:
            continue
        try:
            hook = import_string(path)
        except (ImportError, AttributeError, TypeError) as error:
            fault = f"must be the dotted path of a function ({error})"
        else:
            if callable(hook):
                if name == "PRINCIPAL":
                    yield from _merged_guests(path, hook)
                continue
            fault = f"must be a function, not {type(hook).__name__}"
        yield Error(
            f"{PREFIX}{name} = {path!r} {fault}.",
            hint=f'{PREFIX}{name} = "yourproject.idempotency.{name.lower()}"'
            f"  # def {name.lower()}{signature}",
            id="django_idempotency.E005",
        )


def _moving() -> Iterator[CheckMessage]:
    try:
        old_store()
    except ImproperlyConfigured as error:
        fault, _, line = str(error).partition(" Write\n\n")
        yield Error(fault, hint=line or None, id="django_idempotency.E054")


def _merged_guests(path: str, hook: Callable[..., Any]) -> Iterator[CheckMessage]:
    """Ask the hook for a request of which nothing is known."""
    stranger = HttpRequest()
    stranger.method, stranger.path = "POST", "/"
    try:
        principal = hook(stranger)
    except Exception:
        return  # it needs what the project's middleware finds out
    if isinstance(principal, Identified):
        yield Warning(
            f"IDEMPOTENCY_PRINCIPAL = {path!r} identifies a caller of whom nothing is "
            "known: all strangers would share their keys, and the rules for guests would "
            "not apply to them.",
            hint="from django_idempotency.http import principal_of\n\n"
            "return principal_of(request)  # where there are no credentials",
            id="django_idempotency.W008",
        )


def _codec() -> Iterator[CheckMessage]:
    """Make the codec as it is made where it is used, and let it read what it writes."""
    path: Any = conf.IDEMPOTENCY_BODY_CODEC
    if path is None:
        if conf.IDEMPOTENCY_BODY_KEYS:
            yield Warning(
                "IDEMPOTENCY_BODY_KEYS should go with a codec: without it nothing is "
                "encrypted.",
                hint=f'IDEMPOTENCY_BODY_CODEC = "{FERNET}"',
                id="django_idempotency.W051",
            )
        return
    number, hint = "E049", f'{MAKE_KEYS}\nIDEMPOTENCY_BODY_CODEC = "{FERNET}"'
    try:
        codec = codec_at(path)
        number = "E050"
        data = b"\0an answer\xff"
        encoded = codec.encode(data, "check")
        is_bytes = type(encoded) is bytes
        if not is_bytes or codec.decode(encoded, "check") != data:
            raise ImproperlyConfigured(
                f"IDEMPOTENCY_BODY_CODEC = {path!r} must give back the bytes that it was "
                "given."
            )
    except ImproperlyConfigured as error:
        fault, _, line = str(error).partition(" Write\n\n")
        if line:
            number, hint = "E050", line
        yield Error(fault, hint=hint, id=f"django_idempotency.{number}")
    except Exception as error:
        yield Error(
            f"IDEMPOTENCY_BODY_CODEC = {path!r} must encode and decode bytes "
            f"({type(error).__name__}: {error}).",
            hint=hint,
            id="django_idempotency.E050",
        )


def _values() -> Iterator[CheckMessage]:
    rules: tuple[tuple[str, Callable[[Any], bool], str, str], ...] = (
        (
            "IDEMPOTENCY_ANONYMOUS",
            lambda value: value in ("allow", "refuse"),
            '"allow" or "refuse"',
            'IDEMPOTENCY_ANONYMOUS = "refuse"  # or "allow"',
        ),
        (
            "IDEMPOTENCY_MAX_BODY",
            lambda value: isinstance(value, int) and value >= 0,
            "a number of bytes, 0 or more",
            "IDEMPOTENCY_MAX_BODY = 1024 * 1024  # bytes",
        ),
        (
            "IDEMPOTENCY_MAX_REQUEST_BODY",
            lambda value: value is None or (isinstance(value, int) and value >= 0),
            "a number of bytes, 0 or more, or None",
            "IDEMPOTENCY_MAX_REQUEST_BODY = 25 * 1024 * 1024  # bytes",
        ),
        (
            "IDEMPOTENCY_FIELD",
            lambda value: isinstance(value, str) and value != "",
            "a non-empty string",
            'IDEMPOTENCY_FIELD = "idempotency_key"',
        ),
        (
            "IDEMPOTENCY_REQUIRED",
            _is_bool,
            "True or False",
            "IDEMPOTENCY_REQUIRED = True",
        ),
        (
            "IDEMPOTENCY_COUNT_REPLAYS",
            _is_bool,
            "True or False",
            "IDEMPOTENCY_COUNT_REPLAYS = True",
        ),
        (
            "IDEMPOTENCY_DISTRIBUTED",
            _is_distribution,
            f"a dict from aliases of PostgreSQL to {' or '.join(map(repr, DISTRIBUTED))}",
            'IDEMPOTENCY_DISTRIBUTED = {"default": "citus"}',
        ),
        (
            "IDEMPOTENCY_FIND_CALLS",
            _is_bool,
            "True or False",
            "IDEMPOTENCY_FIND_CALLS = True",
        ),
        (
            "IDEMPOTENCY_STATISTICS",
            _is_bool,
            "True or False",
            "IDEMPOTENCY_STATISTICS = True",
        ),
        (
            "IDEMPOTENCY_HEALTH_TOKEN",
            lambda value: value is None or (isinstance(value, str) and len(value) > 15),
            "a string of at least 16 characters that nobody can guess, or None",
            "IDEMPOTENCY_HEALTH_TOKEN = None  # or what this prints:\n"
            '# python -c "import secrets; print(secrets.token_urlsafe())"',
        ),
        (
            "IDEMPOTENCY_HEADER_DENY_LIST",
            lambda value: not isinstance(value, str) and _are_strings(value),
            "a collection of strings",
            "from django_idempotency.conf import DEFAULT_HEADER_DENY_LIST\n"
            "IDEMPOTENCY_HEADER_DENY_LIST = "
            '[*DEFAULT_HEADER_DENY_LIST, "X-Request-Id"]',
        ),
        (
            "IDEMPOTENCY_OUTSIDE_CALLS",
            lambda value: value in ("ignore", "log", "raise"),
            '"ignore", "log" or "raise"',
            'IDEMPOTENCY_OUTSIDE_CALLS = "raise"  # or "log", or "ignore"',
        ),
        (
            "IDEMPOTENCY_PROFILE",
            lambda value: value in (None, *PROFILES),
            f"None or one of {', '.join(map(repr, PROFILES))}",
            "IDEMPOTENCY_PROFILE = None",
        ),
        (
            "IDEMPOTENCY_ECHO_KEY",
            _is_bool,
            "True or False",
            "IDEMPOTENCY_ECHO_KEY = True",
        ),
        (
            "IDEMPOTENCY_COMPARE",
            lambda value: value in ("request", "body"),
            '"request" or "body"',
            'IDEMPOTENCY_COMPARE = "request"  # or "body"',
        ),
        (
            "IDEMPOTENCY_KEEP_ERRORS",
            _is_bool,
            "True or False",
            "IDEMPOTENCY_KEEP_ERRORS = False",
        ),
        (
            "IDEMPOTENCY_PROBLEM_BASE_URL",
            lambda value: isinstance(value, str),
            "a string",
            'IDEMPOTENCY_PROBLEM_BASE_URL = "https://example.com/problems#"',
        ),
    )
    for name, is_right, wanted, line in rules:
        value = getattr(conf, name)
        if not is_right(value):
            yield Error(
                f"{name} = {value!r} must be {wanted}.",
                hint=line,
                id="django_idempotency.E006",
            )


def _unknown() -> Iterator[CheckMessage]:
    """Report what nobody reads, since a slip of the pen would silently do nothing."""
    known = [name for name in vars(Settings) if name.startswith(PREFIX)]
    for name in dir(settings):
        if name.startswith(OF_OLD_PACKAGES) and conf.IDEMPOTENCY_MOVING_FROM:
            continue  # read by the old package, and perhaps by us
        if name.startswith(PREFIX) and name not in known:
            [nearest] = get_close_matches(name, known, n=1, cutoff=0)
            yield Warning(
                f"{name} isn't a setting of django_idempotency, so it does nothing.",
                hint=f"{nearest} = {getattr(settings, name)!r}",
                id="django_idempotency.W007",
            )


def _is_distribution(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        kind in (*DISTRIBUTED,)
        and alias in connections
        and connections[alias].vendor == "postgresql"
        for alias, kind in value.items()
    )


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _are_strings(value: Any) -> bool:
    return isinstance(value, Collection) and all(
        isinstance(each, str) for each in value
    )
