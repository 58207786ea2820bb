"""When a client sends its request again, and with which key; needs no other package.

The clients of `contrib.httpx` and `contrib.requests` ask this module after each attempt,
and do nothing but what it says. It is read without Django, too.
"""

from __future__ import annotations

import base64
import hmac
import json
import random
import re
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

__all__ = ["PossibleDuplicate", "Retries", "operation_key", "possible_duplicate"]

# What comes between a request that has been carried out and its answer can say any of
# these, and so can the protected view's own surroundings before it runs.
_WORTH_ANOTHER = frozenset({408, 425, 429})
_NEEDS_NO_KEY = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_PROBLEM = "application/problem+json"
_ENDED = "Idempotency-Ended"
_CONFIRM = "Idempotency-Confirm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often and for how long a call is tried."""

    tries: int = 6
    """How many attempts may fail; one that finds the first still running doesn't."""
    deadline: timedelta = timedelta(seconds=90)
    """After which nothing is sent any more."""
    attempt_timeout: timedelta = timedelta(seconds=30)
    """How long to wait for the server where the caller doesn't say."""
    first_pause: timedelta = timedelta(seconds=1)
    """What the first pause is at most; each is twice as long as the one before."""
    longest_pause: timedelta = timedelta(seconds=8)

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise ValueError(f"tries must be at least 1, and is {self.tries!r}.")
        for name in ("deadline", "attempt_timeout", "first_pause", "longest_pause"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) or value <= timedelta(0):
                raise ValueError(
                    f"{name} must be a positive timedelta, and is {value!r}. Write"
                    f" Retries({name}=timedelta(seconds=30))."
                )


def operation_key(operation: str, *, secret: str) -> str:
    """Return the key of what is to be done once, equal in every process and each time.

    `operation` names it, as in ``pay order 7``; two operations have two names. `secret`
    is this service's own, and never changes: with another one, what was done before
    would be done again.

    Raises:
        ValueError: the name is empty, or the secret shorter than 16 characters.
    """
    if not operation:
        raise ValueError(
            'Name the operation, as in operation_key(f"pay order {order.pk}", …).'
        )
    if len(secret) < 16:
        raise ValueError(
            "The secret must have at least 16 characters: a key that can be guessed"
            " gets its answer for whoever guesses it. Make one with"
            ' python -c "import secrets; print(secrets.token_urlsafe())".'
        )
    message = b"django_idempotency.operation:" + _bytes(operation)
    digest = hmac.digest(_bytes(secret), message, "sha256")
    # 24 characters, as guests need them: a UUID made of a name isn't a random one.
    return base64.urlsafe_b64encode(digest[:18]).decode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def needs_key(method: str) -> bool:
    """Whether doing it twice could be other than doing it once."""
    return method.upper() not in _NEEDS_NO_KEY


def key_to_send(given: str | None, header: str) -> str:
    """Return the key of all attempts of a call: the caller's own, or a random one.

    Raises:
        ValueError: the caller's is empty.
    """
    if given is None:
        return str(uuid.uuid4())
    if not given.strip():
        raise ValueError(
            f"The header {header} is empty. Leave it out, and each call gets a key of"
            " its own; or give the key of the operation, as operation_key() makes it."
        )
    return given


CANNOT_BE_SENT_AGAIN = (
    "This body can be read only once, so it could not be sent again if the answer were"
    " lost. Nothing was sent. Give it as bytes, text, json= or files=, not as an open"
    " file, a generator or a stream."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What there is to know of an answer that has arrived whole."""

    status: int
    has_ended: bool = False
    """The server says that this is what the operation has come to."""
    code: str | None = None
    retry: str | None = None
    """What the problem tells a client to do: ``same-key``, ``new-key`` or ``no``."""
    retry_after: timedelta = timedelta(0)
    """How long the server asks to wait."""

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
        """`headers` finds a name however it is spelled; `body` is decoded."""
        problem = _problem_in(headers.get("Content-Type") or "", body)
        return cls(
            status=status,
            has_ended=headers.get(_ENDED) == "true",
            code=_text(problem.get("code")),
            retry=_text(problem.get("retry")),
            retry_after=_retry_after(headers),
        )

    @property
    def is_in_flight(self) -> bool:
        return self.status == 409 and self.code == "in-flight"

    @property
    def is_worth_another(self) -> bool:
        """Whether the same request with the same key may get another answer by itself."""
        if self.has_ended or self.retry in ("new-key", "no"):
            return False
        if self.retry == "same-key" or self.is_in_flight:
            return True
        return self.status >= 500 or self.status in _WORTH_ANOTHER


def is_problem(content_type: str | None) -> bool:
    """Whether the body of such an answer says what to do."""
    return (content_type or "").lower().startswith(_PROBLEM)


def _problem_in(content_type: str, body: bytes) -> Mapping[str, object]:
    if not is_problem(content_type):
        return {}
    try:
        problem = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _retry_after(headers: Mapping[str, str]) -> timedelta:
    value = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"[0-9]+", value):
        digits = value.lstrip("0") or "0"
        # More of them are more than a `timedelta` can be, or even an `int`.
        return timedelta(seconds=int(digits)) if len(digits) < 10 else timedelta.max
    if (until := _date(value)) is None:
        return timedelta(0)
    # By the clock of the server that wrote the date: ours may be wrong.
    now = _date(headers.get("Date") or "") or datetime.now(UTC)
    return max(until - now, timedelta(0))


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # Without a zone, or with -0000, it is UTC all the same (RFC 9110, 5.6.7).
    return date if date.tzinfo else date.replace(tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Call:
    """One call: how it has gone so far, and whether there is another attempt.

    Both answers are how many seconds to pause before that, or None if it was the last.
    """

    retries: Retries
    failures: int = 0
    _began: float = field(default_factory=time.monotonic)

    def limit(self, seconds: float | None) -> float:
        """Return how long the next attempt waits, where the caller says so long."""
        if seconds is None:
            seconds = self.retries.attempt_timeout.total_seconds()
        # No time at all would be taken for no limit.
        return max(min(seconds, self._left), 0.001)

    def pause_after(self, answer: Answer) -> float | None:
        if not answer.is_worth_another:
            return None
        least = answer.retry_after.total_seconds()
        if not answer.is_in_flight:
            return self._pause_after_failure(least)
        # The rest of a long lease: whoever has it may be done long before it is over.
        pause = max(least, self._back_off())
        return self._if_in_time(min(pause, self._longest))

    def pause_after_loss(self) -> float | None:
        """After a request that has no answer: it may have been carried out."""
        return self._pause_after_failure(0)

    def _pause_after_failure(self, least: float) -> float | None:
        self.failures += 1
        if self.failures >= self.retries.tries:
            return None
        return self._if_in_time(max(least, self._back_off()))

    def _if_in_time(self, pause: float) -> float | None:
        return pause if pause < self._left else None

    def _back_off(self) -> float:
        """Full jitter keeps clients that failed together apart."""
        first = self.retries.first_pause.total_seconds()
        doubled = 2.0 ** min(
            max(self.failures - 1, 0), 100
        )  # a float ends at 2 ** 1024
        return random.uniform(0, min(first * doubled, self._longest))  # noqa: S311

    @property
    def _left(self) -> float:
        spent = time.monotonic() - self._began
        return self.retries.deadline.total_seconds() - spent

    @property
    def _longest(self) -> float:
        return self.retries.longest_pause.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class PossibleDuplicate:
    """What was done just before: the call may be a second click."""

    reference: str
    """What people call the first one by."""
    age: timedelta
    """How long ago it was done."""
    about: str | None
    """What it was about, if the API says so."""
    confirmation: Mapping[str, str]
    """The headers with which the same request says that another one is meant."""


class Response(Protocol):
    """What the responses of httpx and of requests have in common."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def content(self) -> Any: ...
    @property
    def request(self) -> Any: ...


def possible_duplicate(
    response: Response, *, header: str = "Idempotency-Key"
) -> PossibleDuplicate | None:
    """Return what the call may be a duplicate of, if it was refused for that.

    Whoever means another one makes the same call with the headers in `confirmation`: the
    same key, and the reference of the first one. No client does so by itself.

    Raises:
        ValueError: the request had no key in this header.
    """
    problem = _problem_in(response.headers.get("Content-Type") or "", response.content)
    first = problem.get("first")
    if problem.get("code") != "possible-duplicate" or not isinstance(first, dict):
        return None
    reference, age = _text(first.get("reference")), first.get("age_seconds")
    if not reference or not re.fullmatch(r"[!-~]{1,255}", reference):
        return None  # it goes into a header
    if type(age) is not int or not 0 <= age < 10**9:
        return None
    key = response.request.headers.get(header)
    if not key:
        raise ValueError(
            f"The request had no key in its header {header}. If the API has another "
            "name for it, write possible_duplicate(response, header='X-Key')."
        )
    return PossibleDuplicate(
        reference=reference,
        age=timedelta(seconds=age),
        about=_text(first.get("about")),
        confirmation={header: key, _CONFIRM: reference},
    )
