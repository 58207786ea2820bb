"""Problems in the words of others: for IDEMPOTENCY_PROFILE.

Only for programs. Whoever has sent a form reads our page, also under a profile.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse

from .people import is_from_a_form


def stripe_problem(
    request: HttpRequest, problem: dict[str, Any]
) -> HttpResponse | None:
    """Answer as Stripe's API does, whose clients raise an ``IdempotencyError`` of it.

    A key that was used for another request is 400 there. 409 is what those clients send
    again by themselves, so only what passes by itself keeps it.

    Source: Stripe API, "Errors" and "Idempotent requests".
    """
    if is_from_a_form(request):
        return None
    status = problem["status"]
    error: dict[str, Any] = {"type": "idempotency_error", "message": problem["detail"]}
    if problem["code"] == "in-flight":
        error["code"] = "idempotency_key_in_use"
    elif status in (409, 422):
        status = 400
    elif status >= 500:
        error["type"] = "api_error"
    error |= _named_in(problem)
    should_retry = "true" if problem["retry"] == "same-key" else "false"
    return JsonResponse(
        {"error": error}, status=status, headers={"Stripe-Should-Retry": should_retry}
    )


_ACP_CODES = {
    "key-missing": "idempotency_key_required",
    "key-reused": "idempotency_conflict",
    "in-flight": "idempotency_in_flight",
}


def acp_problem(request: HttpRequest, problem: dict[str, Any]) -> HttpResponse | None:
    """Answer in the flat form of the Agentic Commerce Protocol.

    What its specification has no code for gets ours, with underscores.

    Source: Agentic Commerce Protocol, RFC "Agentic Checkout", 3.1 and 6.4.
    """
    if is_from_a_form(request):
        return None
    code, status = problem["code"], problem["status"]
    document = {
        "type": "service_unavailable" if status >= 500 else "invalid_request",
        "code": _ACP_CODES.get(code, code.replace("-", "_")),
        "message": problem["detail"],
        **_named_in(problem),
    }
    return JsonResponse(document, status=status)


def _named_in(problem: dict[str, Any]) -> dict[str, Any]:
    """Return what neither has a word for, and no client can do without.

    Who means another one has to name the first one, which is named nowhere else.
    """
    return {"first": problem["first"]} if "first" in problem else {}
