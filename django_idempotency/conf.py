"""The package's settings: one typed property each, read at use, never at import."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, TypeVar

from django.conf import settings
from django.core.signals import setting_changed

__all__ = ["conf"]

T = TypeVar("T")

DEFAULT_HEADER_DENY_LIST = (
    # They belong to one exchange or one browser; a replay must not pass them on.
    "Set-Cookie",
    "Date",
    "Server",
    "Content-Length",
    "Authorization",
    "WWW-Authenticate",
    # Hop-by-hop (RFC 9110, 7.6.1).
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authentication-Info",
    "Proxy-Authorization",
    "Proxy-Connection",
    "TE",
    "Trailer",
    "Transfer-Encoding",
    "Upgrade",
)


LONGEST_WAIT = timedelta(days=1)
"""A database counts a wait for a lock in milliseconds, up to 2³¹ of them."""

LONGEST_DURATION = timedelta(days=36_500)
"""A hundred years from now is a date on every database, and so is one before."""


def fault_of_duration(
    value: object, *, zero_allowed: bool = False, longest: timedelta = LONGEST_DURATION
) -> str:
    """Return what is wrong with it, as in "must be positive"; nothing if it is right."""
    if not isinstance(value, timedelta):
        return "must be a timedelta"
    if value < timedelta(0) or (not value and not zero_allowed):
        return "must not be negative" if zero_allowed else "must be positive"
    if value > longest:
        return f"must not be longer than {longest.days} day{'s' if longest.days > 1 else ''}"
    return ""


class Settings:
    # Cached: looking up a setting that a project leaves out is slow in Django.
    @cached_property
    def IDEMPOTENCY_PROFILE(self) -> str | None:
        """Whose ways the other settings follow where the project doesn't set them."""
        own: str | None = None
        return _setting("IDEMPOTENCY_PROFILE", own)

    @cached_property
    def IDEMPOTENCY_HEADER(self) -> str:
        """Name of the request header with the client's key, as clients send it."""
        return _setting("IDEMPOTENCY_HEADER", "Idempotency-Key")

    @cached_property
    def IDEMPOTENCY_REPLAYED_HEADER(self) -> str:
        """Name of the response header that marks a replay; its value is ``true``."""
        return _setting("IDEMPOTENCY_REPLAYED_HEADER", "Idempotency-Replayed")

    @cached_property
    def IDEMPOTENCY_ECHO_KEY(self) -> bool:
        """Whether each answer to a request with a key says that key in its header."""
        return _setting("IDEMPOTENCY_ECHO_KEY", False)

    @cached_property
    def IDEMPOTENCY_COMPARE(self) -> Literal["request", "body"]:
        """What of a repeat must be equal: query, media type and body, or its body."""
        request: Literal["request", "body"] = "request"
        return _setting("IDEMPOTENCY_COMPARE", request)

    @cached_property
    def IDEMPOTENCY_KEEP_ERRORS(self) -> bool:
        """Whether answers that frameworks make of raised exceptions can be kept, too."""
        return _setting("IDEMPOTENCY_KEEP_ERRORS", False)

    @cached_property
    def IDEMPOTENCY_FIELD(self) -> str:
        """Name of the hidden form field that may carry the key instead."""
        return _setting("IDEMPOTENCY_FIELD", "idempotency_key")

    @cached_property
    def IDEMPOTENCY_REQUIRED(self) -> bool:
        """Whether POST and PATCH without a key are refused with 400."""
        return _setting("IDEMPOTENCY_REQUIRED", True)

    @cached_property
    def IDEMPOTENCY_WAIT(self) -> timedelta:
        """How long a copy waits in total for the operation in flight; zero: not at all."""
        return _setting("IDEMPOTENCY_WAIT", timedelta(seconds=5))

    @cached_property
    def IDEMPOTENCY_RETENTION(self) -> timedelta:
        """How long an answer can be replayed, counted from the claim."""
        return _setting("IDEMPOTENCY_RETENTION", timedelta(hours=48))

    @cached_property
    def IDEMPOTENCY_TOMBSTONE(self) -> timedelta:
        """How long after that a repeat is still refused; zero: it is done anew."""
        return _setting("IDEMPOTENCY_TOMBSTONE", timedelta(0))

    @cached_property
    def IDEMPOTENCY_INTENT_WINDOW(self) -> timedelta:
        """How long the same under another key has to be confirmed; zero: not at all."""
        return _setting("IDEMPOTENCY_INTENT_WINDOW", timedelta(0))

    @cached_property
    def IDEMPOTENCY_EVENT_RETENTION(self) -> timedelta:
        """How long a webhook event is recognised, from when it was handled or stored."""
        return _setting("IDEMPOTENCY_EVENT_RETENTION", timedelta(days=35))

    @cached_property
    def IDEMPOTENCY_MAX_BODY(self) -> int:
        """Largest answer body that is stored, in bytes."""
        return _setting("IDEMPOTENCY_MAX_BODY", 1024 * 1024)

    @cached_property
    def IDEMPOTENCY_BODY_CODEC(self) -> str | None:
        """Dotted path of what encodes answers, results and payloads at rest."""
        as_they_are: str | None = None
        return _setting("IDEMPOTENCY_BODY_CODEC", as_they_are)

    @cached_property
    def IDEMPOTENCY_BODY_KEYS(self) -> Collection[str]:
        """Keys of the package's own codec; the first encrypts, all decrypt."""
        none: Collection[str] = ()
        return _setting("IDEMPOTENCY_BODY_KEYS", none)

    @cached_property
    def IDEMPOTENCY_MAX_REQUEST_BODY(self) -> int | None:
        """Largest request body that is read for a key, in bytes; ``None``: any."""
        default: int | None = 25 * 1024 * 1024
        return _setting("IDEMPOTENCY_MAX_REQUEST_BODY", default)

    @cached_property
    def IDEMPOTENCY_ANONYMOUS(self) -> Literal["allow", "refuse"]:
        """Whether guests may send (unguessable) keys."""
        allow: Literal["allow", "refuse"] = "allow"
        return _setting("IDEMPOTENCY_ANONYMOUS", allow)

    @cached_property
    def IDEMPOTENCY_PRINCIPAL(self) -> str | None:
        """Dotted path of a function, request → str, that names whose keys these are."""
        nobody: str | None = None
        return _setting("IDEMPOTENCY_PRINCIPAL", nobody)

    @cached_property
    def IDEMPOTENCY_PATH(self) -> str | None:
        """Dotted path of a function, request → str, that stands in for request.path."""
        as_sent: str | None = None
        return _setting("IDEMPOTENCY_PATH", as_sent)

    @cached_property
    def IDEMPOTENCY_MOVING_FROM(self) -> str | None:
        """Dotted path of the store that another package has filled, during a move."""
        from_none: str | None = None
        return _setting("IDEMPOTENCY_MOVING_FROM", from_none)

    @cached_property
    def IDEMPOTENCY_DISTRIBUTED(self) -> Mapping[str, str]:
        """Databases whose rows are on several servers: what they are, by their alias."""
        none: Mapping[str, str] = {}
        return _setting("IDEMPOTENCY_DISTRIBUTED", none)

    def distribution_of(self, alias: str) -> str | None:
        """Return what the setting says of this database; ``None``: it is one server.

        A setting that says nothing is told by a check, which has to come that far.
        """
        distributed: object = self.IDEMPOTENCY_DISTRIBUTED
        kind = distributed.get(alias) if isinstance(distributed, Mapping) else None
        return kind if isinstance(kind, str) else None

    @cached_property
    def IDEMPOTENCY_COUNT_REPLAYS(self) -> bool:
        """Whether replays are counted on the record, after the answer was sent."""
        return _setting("IDEMPOTENCY_COUNT_REPLAYS", True)

    @cached_property
    def IDEMPOTENCY_FIND_CALLS(self) -> bool:
        """Whether an operation is found by the keys that its calls have handed over."""
        return _setting("IDEMPOTENCY_FIND_CALLS", True)

    @cached_property
    def IDEMPOTENCY_STATISTICS(self) -> bool:
        """Whether what happens is counted by the hour, beside the requests."""
        return _setting("IDEMPOTENCY_STATISTICS", True)

    @cached_property
    def IDEMPOTENCY_STATISTICS_RETENTION(self) -> timedelta:
        """How long the counts of an hour are kept."""
        return _setting("IDEMPOTENCY_STATISTICS_RETENTION", timedelta(days=90))

    @cached_property
    def IDEMPOTENCY_HEALTH_TOKEN(self) -> str | None:
        """What a program sends to read the health check; ``None``: staff only."""
        staff_only: str | None = None
        return _setting("IDEMPOTENCY_HEALTH_TOKEN", staff_only)

    @cached_property
    def IDEMPOTENCY_HEADER_DENY_LIST(self) -> Collection[str]:
        """Response headers that are neither stored nor replayed; case doesn't matter."""
        default: Collection[str] = DEFAULT_HEADER_DENY_LIST
        return _setting("IDEMPOTENCY_HEADER_DENY_LIST", default)

    @cached_property
    def IDEMPOTENCY_OUTSIDE_CALLS(self) -> Literal["ignore", "log", "raise"]:
        """What happens to an outside call without a key inside an atomic operation."""
        ignore: Literal["ignore", "log", "raise"] = "ignore"
        return _setting("IDEMPOTENCY_OUTSIDE_CALLS", ignore)

    @cached_property
    def IDEMPOTENCY_PROBLEM_BASE_URL(self) -> str:
        """Prefix of the ``type`` of every problem document; the code is appended."""
        return _setting(
            "IDEMPOTENCY_PROBLEM_BASE_URL",
            "https://django-idempotency.readthedocs.io/en/stable/reference/problems.html#",
        )

    @cached_property
    def IDEMPOTENCY_PROBLEM_RESPONSE(self) -> str | None:
        """Dotted path of a function that answers problems in the project's own format."""
        own: str | None = None
        return _setting("IDEMPOTENCY_PROBLEM_RESPONSE", own)


PROFILES: dict[str, dict[str, Any]] = {
    "stripe": {
        "IDEMPOTENCY_REPLAYED_HEADER": "Idempotent-Replayed",
        "IDEMPOTENCY_ECHO_KEY": True,
        "IDEMPOTENCY_PROBLEM_RESPONSE": "django_idempotency.http.profiles.stripe_problem",
    },
    "acp": {
        "IDEMPOTENCY_REPLAYED_HEADER": "Idempotent-Replayed",
        "IDEMPOTENCY_ECHO_KEY": True,
        "IDEMPOTENCY_PROBLEM_RESPONSE": "django_idempotency.http.profiles.acp_problem",
        "IDEMPOTENCY_COMPARE": "body",
        "IDEMPOTENCY_KEEP_ERRORS": True,
        "IDEMPOTENCY_WAIT": timedelta(0),
    },
}
"""The settings that each profile has other defaults for."""


def _setting(name: str, default: T) -> T:
    profile = getattr(settings, "IDEMPOTENCY_PROFILE", None)
    if isinstance(profile, str):  # what it is called is checked elsewhere
        default = PROFILES.get(profile, {}).get(name, default)
    value: T = getattr(settings, name, default)
    return value


conf = Settings()


def _forget(*, setting: str, **more: Any) -> None:
    """Read the setting again after a test has overridden it."""
    if setting == "IDEMPOTENCY_PROFILE":
        vars(conf).clear()
    vars(conf).pop(setting, None)


setting_changed.connect(_forget)
