"""What a client reads when it gets no answer of the view (RFC 9457)."""

from __future__ import annotations

import json
from dataclasses import dataclass

from django.http import HttpResponse

from .conf import conf

__all__ = [
    "ANSWER_UNAVAILABLE",
    "IN_FLIGHT",
    "KEY_INVALID",
    "KEY_MISSING",
    "KEY_REUSED",
    "OUTCOME_UNKNOWN",
    "STORE_UNAVAILABLE",
    "Problem",
    "problem_response",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One way in which a request is refused; never holds anything of the request."""

    code: str
    """Stable; programs go by it."""
    status: int
    title: str
    detail: str
    """What to do, for the person who reads it."""
    retry_after_seconds: int | None = None


KEY_MISSING = Problem(
    code="key-missing",
    status=400,
    title="An idempotency key is required",
    detail="Make a random key before the first try, send it in the {header} header, "
    "and send the same key again with each retry of this request.",
)
KEY_INVALID = Problem(
    code="key-invalid",
    status=400,
    title="The idempotency key can't be used",
    detail="{reason}",
)
KEY_REUSED = Problem(
    code="key-reused",
    status=422,
    title="The idempotency key was used for another request",
    detail="The first request with this key had another payload, and its outcome "
    "stands. If you mean a new request, make a new key.",
)
IN_FLIGHT = Problem(
    code="in-flight",
    status=409,
    title="The first request with this key is still running",
    detail="Wait as long as the Retry-After header says, then send the same request "
    "with the same key again.",
    retry_after_seconds=1,
)
OUTCOME_UNKNOWN = Problem(
    code="outcome-unknown",
    status=409,
    title="The outcome of this request is being looked into",
    detail="It may or may not have happened, and a person has to find out. Don't send "
    "it under a new key.",
)
ANSWER_UNAVAILABLE = Problem(
    code="answer-unavailable",
    status=409,
    title="The request was carried out, but its answer can't be shown again",
    detail="Look the outcome up another way. Don't send it under a new key.",
)
STORE_UNAVAILABLE = Problem(
    code="store-unavailable",
    status=503,
    title="The request could not be accepted just now",
    detail="Nothing was done. Wait as long as the Retry-After header says, then send "
    "the same request with the same key again.",
    retry_after_seconds=1,
)


def problem_response(problem: Problem, *, reason: str = "") -> HttpResponse:
    """Return the problem document; `reason` is the detail of KEY_INVALID."""
    document = {
        "type": f"{conf.IDEMPOTENCY_PROBLEM_BASE_URL}{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail.format(header=conf.IDEMPOTENCY_HEADER, reason=reason),
        "code": problem.code,
    }
    response = HttpResponse(
        json.dumps(document),
        status=problem.status,
        content_type="application/problem+json",
    )
    if problem.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(problem.retry_after_seconds)
    return response
