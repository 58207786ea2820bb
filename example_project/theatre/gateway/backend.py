"""The way to the server that makes the charges."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from functools import cache
from typing import Any

import httpx
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from .errors import stripe_error
from .reports import KEY_FIELD

__all__ = ["fetch", "forward", "outcome_is_final"]

# Nothing was sent: the backend has done nothing, and the next try may go well.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


def forward(request: HttpRequest) -> HttpResponse:
    """Send the request on and return the backend's answer as it is."""
    form = {k: v for k, v in request.POST.lists() if not _is_newer(k)}
    key = request.headers.get("Idempotency-Key")
    if key and request.path.endswith("/payment_intents"):
        form[f"metadata[{KEY_FIELD}]"] = [key]
    # Half on the way to the bank, half on the way back: a client that is cut off in
    # between has paid and doesn't know.
    _travel()
    answer = _ask(request, data=form)
    _travel()
    if answer.status_code >= 500 and outcome_is_final(answer):
        # Its clients would send it again for nothing: it is kept.
        answer.headers["Stripe-Should-Retry"] = "false"
    return answer


def fetch(request: HttpRequest, path: str | None = None) -> HttpResponse:
    """Return what the backend has there, and change nothing."""
    _travel()
    return _ask(request, path=path)


def _travel() -> None:
    latency: timedelta = _setting("GATEWAY_LATENCY")
    time.sleep(latency.total_seconds() / 2)


def _ask(
    request: HttpRequest,
    *,
    data: Mapping[str, list[str]] | None = None,
    path: str | None = None,
) -> HttpResponse:
    headers = {"Authorization": request.headers["Authorization"]}
    try:
        answer = _client().request(
            "GET" if data is None else "POST",
            path or request.get_full_path(),
            data=data,
            headers=headers,
        )
    except _NOT_SENT:
        return stripe_error(503, "api_error", "The payment server is not reachable.")
    except httpx.HTTPError:
        return stripe_error(504, "api_error", "The payment server did not answer.")
    return HttpResponse(
        answer.content,
        status=answer.status_code,
        content_type=answer.headers.get("Content-Type"),
    )


def outcome_is_final(answer: HttpResponseBase) -> bool:
    """Which answers an idempotency key keeps: those after which money may have moved.

    Success and a declined card are outcomes. So is, as with Stripe, an error after the
    request was sent: nobody knows what it did, the backend can't be asked again without
    risking a second charge, and a person has to look. Bad parameters and a backend
    that wasn't reached did nothing, and the same key may try again.
    """
    status = answer.status_code
    return 200 <= status < 300 or status in (402, 500, 502, 504)


def _is_newer(field: str) -> bool:
    # Stripe needs it, and localstripe refuses what came after its time.
    return field.startswith("automatic_payment_methods[")


@cache
def _client() -> httpx.Client:
    # Made at first use, so that each process has connections of its own. A proxy for
    # the outside world (trust_env) has no business between us and the backend.
    url = _setting("GATEWAY_BACKEND_URL")
    return httpx.Client(base_url=url, timeout=20, trust_env=False)


def _setting(name: str) -> Any:
    return getattr(settings, name)
