"""What a client reads when it gets no answer of the view (RFC 9457)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string

from .bodies import FORM, MULTIPART
from .conf import conf

__all__ = [
    "ANSWER_UNAVAILABLE",
    "IN_FLIGHT",
    "KEY_INVALID",
    "KEY_MISSING",
    "KEY_REUSED",
    "OUTCOME_UNKNOWN",
    "PROBLEMS",
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


PROBLEMS = (
    KEY_MISSING,
    KEY_INVALID,
    KEY_REUSED,
    IN_FLIGHT,
    OUTCOME_UNKNOWN,
    ANSWER_UNAVAILABLE,
    STORE_UNAVAILABLE,
)
"""All there are."""


def problem_response(
    problem: Problem,
    request: HttpRequest,
    *,
    reason: str = "",
    retry_after: timedelta | None = None,
) -> HttpResponse:
    """Return the problem as JSON, or as a page to a browser that sent a form.

    `reason` is the detail of KEY_INVALID; `retry_after`, where it is known, goes before
    the problem's own. The page is ``django_idempotency/<code>.html``
    where the project has one, else ``django_idempotency/problem.html``.
    """
    detail = problem.detail.format(header=conf.IDEMPOTENCY_HEADER, reason=reason)
    page = _page(problem, detail, request) if _is_from_a_form(request) else None
    if page is not None:
        response = HttpResponse(page, status=problem.status)
    else:
        response = HttpResponse(
            json.dumps(_document(problem, detail)),
            status=problem.status,
            content_type="application/problem+json",
        )
    seconds = problem.retry_after_seconds
    if retry_after is not None:
        seconds = max(1, math.ceil(retry_after.total_seconds()))
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response


def _document(problem: Problem, detail: str) -> dict[str, str | int]:
    return {
        "type": f"{conf.IDEMPOTENCY_PROBLEM_BASE_URL}{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
    }


def _is_from_a_form(request: HttpRequest) -> bool:
    if request.content_type not in (FORM, MULTIPART):
        return False
    preferred = request.get_preferred_type(["application/problem+json", "text/html"])
    return preferred == "text/html"


def _page(problem: Problem, detail: str, request: HttpRequest) -> str | None:
    names = [
        f"django_idempotency/{problem.code}.html",
        "django_idempotency/problem.html",
    ]
    context = {
        "code": problem.code,
        "title": problem.title,
        "detail": detail,
        "can_be_repeated": problem.retry_after_seconds is not None,
    }
    try:
        return render_to_string(names, context, request)
    except (ImproperlyConfigured, TemplateDoesNotExist):
        return None  # a project without templates
    except Error:
        return None  # the project's page asks the database that can't be reached
