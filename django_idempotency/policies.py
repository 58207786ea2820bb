"""What can be configured for each protected endpoint."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

from django.core.exceptions import ImproperlyConfigured

from .conf import LONGEST_WAIT, conf, fault_of_duration

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["IdempotencyPolicy", "keep_outcomes"]

RELEASED_STATUSES = frozenset({405, 406, 408, 413, 415, 421, 423, 424, 425, 429})
"""Statuses below 500 that don't state an outcome: the request may succeed later."""


def keep_outcomes(response: HttpResponseBase) -> bool:
    """Return whether an answer is kept by default: what the view decided is.

    Answers like "not now" and "not like this" are released. A `keep` of your own can ask
    this first, and then for more.
    """
    status = response.status_code
    return status < 500 and status not in RELEASED_STATUSES


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyPolicy:
    """How one endpoint is protected. ``None`` stands for the setting.

    Raises:
        ImproperlyConfigured: where the policy is written, if a value is invalid.
    """

    required: bool | None = None
    """Whether POST and PATCH without a key are refused; IDEMPOTENCY_REQUIRED."""
    wait: timedelta | None = None
    """How long a copy waits in total for the operation in flight; IDEMPOTENCY_WAIT."""
    retention: timedelta | None = None
    """How long the answer can be replayed; IDEMPOTENCY_RETENTION."""
    tombstone: timedelta | None = None
    """How long after its retention a repeat is refused, with 409 ``answer-expired``, and
    not done anew; zero: not at all; IDEMPOTENCY_TOMBSTONE."""
    intent_window: timedelta | None = None
    """For how long the same under *another* key is refused, with 409
    ``possible-duplicate``, until the client confirms it; zero: not at all. Of signed-in
    users only, counted from the end of the first one; IDEMPOTENCY_INTENT_WINDOW."""
    lease: timedelta | None = None
    """If set, the leased shape: how long the view may take, outside of any transaction,
    before another request may take the operation over. Choose it well above the slowest
    run; `request.idempotency.extend()` extends it."""
    keep: Callable[[HttpResponseBase], bool] = keep_outcomes
    """Whether a repeat gets this returned answer; otherwise its key is released.

    By default everything below 500 except 405, 406, 408, 413, 415, 421, 423, 424, 425 and
    429. An answer below 400 is committed whatever `keep` says: refuse one that asks the
    caller to come back, such as a page for a second factor. Another one that is refused is
    rolled back, unless there is a lease.
    """
    keep_errors: bool | None = None
    """DRF and django-ninja only: let `keep` judge the answer made from a *raised*
    exception too; IDEMPOTENCY_KEEP_ERRORS.

    The view's writes are rolled back all the same, unless it has a lease; the answer is
    then stored in a transaction of its own.
    """
    keep_body: bool = True
    """``False``: the body never reaches the database; a repeat gets status and headers
    with an empty body and ``Idempotency-Replay: omitted``."""
    max_body: int | None = None
    """Largest body to store, in bytes; a larger one is treated as by ``keep_body=False``;
    IDEMPOTENCY_MAX_BODY."""
    max_request_body: int | None = None
    """Largest request body that is read for a key, in bytes, uploads included; a larger
    one is refused with 413, unread. ``None``: IDEMPOTENCY_MAX_REQUEST_BODY, and any
    upload."""
    exclude: Collection[str] = ()
    """Form fields or members of the top-level JSON object left out of the fingerprint."""
    fingerprint: Callable[[HttpRequest], str | bytes] | None = None
    """Returns what identifies the payload, in place of query and body."""

    def __post_init__(self) -> None:
        _require_duration("wait", self.wait, zero_allowed=True, longest=LONGEST_WAIT)
        _require_duration("retention", self.retention)
        _require_duration("tombstone", self.tombstone, zero_allowed=True)
        _require_duration("intent_window", self.intent_window, zero_allowed=True)
        _require_duration("lease", self.lease)
        if self.retention is not None:
            self._require_lease_shorter_than(self.retention, "retention")
            self._require_window_shorter_than(self.retention, "retention")
        if isinstance(self.exclude, str):
            raise ImproperlyConfigured(
                f"exclude={self.exclude!r} must be a collection of field names, not one "
                f"string. Write exclude=({self.exclude!r},)."
            )
        for name in ("max_body", "max_request_body"):
            size = getattr(self, name)
            if size is not None and not (isinstance(size, int) and size >= 0):
                raise ImproperlyConfigured(
                    f"{name}={size!r} must be a number of bytes, 0 or more."
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
        if self.retention is not None:
            return self.retention
        retention = conf.IDEMPOTENCY_RETENTION
        self._require_lease_shorter_than(retention, "IDEMPOTENCY_RETENTION")
        self._require_window_shorter_than(retention, "IDEMPOTENCY_RETENTION")
        return retention

    @property
    def effective_tombstone(self) -> timedelta:
        return conf.IDEMPOTENCY_TOMBSTONE if self.tombstone is None else self.tombstone

    @property
    def effective_intent_window(self) -> timedelta:
        if self.intent_window is None:
            return conf.IDEMPOTENCY_INTENT_WINDOW
        return self.intent_window

    def _require_window_shorter_than(self, retention: timedelta, name: str) -> None:
        """Of what is forgotten nobody knows that it was the first."""
        if self.intent_window is not None and self.intent_window >= retention:
            raise ImproperlyConfigured(
                f"intent_window={self.intent_window!r} must be shorter than {name} "
                f"({retention!r}): what is forgotten can't be asked about. It is meant "
                "for seconds: write intent_window=timedelta(seconds=30)."
            )

    def _require_lease_shorter_than(self, retention: timedelta, name: str) -> None:
        """When the lease ends, the record has to be there still, with its steps."""
        if self.lease is not None and self.lease >= retention:
            raise ImproperlyConfigured(
                f"lease={self.lease!r} must be shorter than {name} ({retention!r}): the "
                "operation would be forgotten before it can be resumed, and its finished "
                "steps be made again. Write a longer retention=timedelta(…)."
            )

    @property
    def keeps_errors(self) -> bool:
        """Of views that can: on others, what a policy itself says is refused."""
        if self.keep_errors is None:
            return conf.IDEMPOTENCY_KEEP_ERRORS
        return self.keep_errors

    @property
    def effective_max_body(self) -> int:
        return conf.IDEMPOTENCY_MAX_BODY if self.max_body is None else self.max_body


class PolicyOptions(TypedDict, total=False):
    """The fields of `IdempotencyPolicy`, as keyword arguments."""

    required: bool | None
    wait: timedelta | None
    retention: timedelta | None
    tombstone: timedelta | None
    intent_window: timedelta | None
    lease: timedelta | None
    keep: Callable[[HttpResponseBase], bool]
    keep_errors: bool | None
    keep_body: bool
    max_body: int | None
    max_request_body: int | None
    exclude: Collection[str]
    fingerprint: Callable[[HttpRequest], str | bytes] | None


def _require_duration(name: str, value: timedelta | None, **limits: Any) -> None:
    if value is None or not (fault := fault_of_duration(value, **limits)):
        return
    given: object = value
    if not isinstance(given, timedelta):
        fault += f"; write {name}=timedelta(seconds={given!r})"
    raise ImproperlyConfigured(f"{name}={value!r} {fault}.")
