"""What may differ from one protected endpoint to the next."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypedDict

from django.core.exceptions import ImproperlyConfigured

from .conf import conf

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["IdempotencyPolicy"]

RELEASED_STATUSES = frozenset({405, 406, 408, 413, 415, 425, 429})
"""Below 500, yet no outcome: the same request may well succeed later."""


def keep_outcomes(response: HttpResponseBase) -> bool:
    """Keep what the view decided; release what says "not now" or "not like this"."""
    status = response.status_code
    return status < 500 and status not in RELEASED_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyPolicy:
    """How one endpoint is protected. ``None`` means: as the setting says.

    Raises:
        ImproperlyConfigured: where it is written, if a value can't be meant.
    """

    required: bool | None = None
    """Whether POST and PATCH without a key are refused; IDEMPOTENCY_REQUIRED."""
    wait: timedelta | None = None
    """How long a copy waits for the operation in flight, in all; IDEMPOTENCY_WAIT."""
    retention: timedelta | None = None
    """How long the answer can be replayed; IDEMPOTENCY_RETENTION."""
    lease: timedelta | None = None
    """Set: the leased shape. How long the view may take, outside of any transaction,
    before another request may take the operation over. Choose it well above the slowest
    run; `request.idempotency.extend()` prolongs it."""
    keep: Callable[[HttpResponseBase], bool] = keep_outcomes
    """Whether a returned answer is committed and stored, or rolled back and released;
    with a lease, stored or released.

    By default everything below 500 except 405, 406, 408, 413, 415, 425 and 429.
    """
    keep_errors: bool = False
    """DRF only: let `keep` judge the answer made from a *raised* exception too.

    The view's writes are rolled back all the same, unless it has a lease; the answer is then stored in a
    transaction of its own.
    """
    keep_body: bool = True
    """``False``: the body never reaches the database; a repeat gets status and headers
    with an empty body and ``Idempotency-Replay: omitted``."""
    max_body: int | None = None
    """Largest body to store, in bytes; a larger one is treated as by ``keep_body=False``;
    IDEMPOTENCY_MAX_BODY."""
    exclude: Collection[str] = ()
    """Form fields or members of the top-level JSON object left out of the fingerprint."""
    fingerprint: Callable[[HttpRequest], str | bytes] | None = None
    """Returns what identifies the payload, in place of query and body."""

    def __post_init__(self) -> None:
        _require_duration("wait", self.wait, zero_allowed=True)
        _require_duration("retention", self.retention)
        _require_duration("lease", self.lease)
        if isinstance(self.exclude, str):
            raise ImproperlyConfigured(
                f"exclude={self.exclude!r} is one string, whose every letter would be "
                f"a field name; write exclude=({self.exclude!r},)."
            )
        max_body: object = self.max_body
        if max_body is not None and not (isinstance(max_body, int) and max_body >= 0):
            raise ImproperlyConfigured(
                f"max_body={max_body!r} must be a number of bytes, 0 or more."
            )
        for name in ("keep", "fingerprint"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise ImproperlyConfigured(f"{name}={value!r} must be a function.")

    @property
    def key_required(self) -> bool:
        return conf.IDEMPOTENCY_REQUIRED if self.required is None else self.required

    @property
    def effective_wait(self) -> timedelta:
        return conf.IDEMPOTENCY_WAIT if self.wait is None else self.wait

    @property
    def effective_retention(self) -> timedelta:
        return conf.IDEMPOTENCY_RETENTION if self.retention is None else self.retention

    @property
    def effective_max_body(self) -> int:
        return conf.IDEMPOTENCY_MAX_BODY if self.max_body is None else self.max_body


class PolicyOptions(TypedDict, total=False):
    """The fields of `IdempotencyPolicy`, as keyword arguments."""

    required: bool | None
    wait: timedelta | None
    retention: timedelta | None
    lease: timedelta | None
    keep: Callable[[HttpResponseBase], bool]
    keep_errors: bool
    keep_body: bool
    max_body: int | None
    exclude: Collection[str]
    fingerprint: Callable[[HttpRequest], str | bytes] | None


def _require_duration(
    name: str, value: timedelta | None, *, zero_allowed: bool = False
) -> None:
    if value is None:
        return
    given: object = value
    if not isinstance(given, timedelta):
        raise ImproperlyConfigured(
            f"{name}={value!r} has no unit; write {name}=timedelta(seconds={value!r})."
        )
    if value < timedelta(0) or (not value and not zero_allowed):
        raise ImproperlyConfigured(f"{name}={value!r} must be longer than nothing.")
