"""Errors as Stripe's clients understand them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps

from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

__all__ = ["stripe_error", "stripe_errors"]

_View = Callable[..., HttpResponseBase]


def stripe_error(
    status: int, kind: str, message: str, *, code: str | None = None
) -> HttpResponse:
    error = {"type": kind, "message": message}
    if code is not None:
        error["code"] = code
    return JsonResponse({"error": error}, status=status)


def stripe_errors(view: _View) -> _View:
    """Translate django_idempotency's problem documents, which Stripe has other words for.

    A reused key is 400 there, and a key in flight has a code of its own. Both get the
    type that the official clients raise as ``IdempotencyError``.
    """

    @wraps(view)
    def wrapped(request: HttpRequest) -> HttpResponseBase:
        answer = view(request)
        if (
            not isinstance(answer, HttpResponse)
            or answer.headers.get("Content-Type") != "application/problem+json"
        ):
            return answer
        problem = json.loads(answer.content)
        in_flight = problem["code"] == "in-flight"
        status = answer.status_code
        if status < 500 and not in_flight:
            status = 400
        return stripe_error(
            status,
            "idempotency_error" if status < 500 else "api_error",
            problem["detail"],
            code="idempotency_key_in_use" if in_flight else None,
        )

    return wrapped
