"""What the gateway offers: payments and refunds, each once per idempotency key, a look at
a payment, and the events of all of them."""

from __future__ import annotations

import json
from datetime import timedelta

import httpx
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest

from .api_keys import api_key_required
from .backend import fetch, forward, outcome_is_final
from .errors import stripe_error
from .reports import deliver, reports_of, source_of


@csrf_exempt
@require_POST
@api_key_required
@idempotent(required=False, keep=outcome_is_final, retention=timedelta(hours=24))
def create(request: IdempotentRequest) -> HttpResponse:
    """Make a payment or refund, once per key."""
    return forward(request)


@csrf_exempt
@require_GET
@api_key_required
def retrieve(request: HttpRequest, payment: str) -> HttpResponse:
    """Tell how a payment stands, which needs no key: asking changes nothing."""
    return fetch(request)


@csrf_exempt
@require_GET
@api_key_required
def events(request: HttpRequest) -> HttpResponse:
    """Tell what has happened, each with the key of the call that has caused it."""
    answer = fetch(request)
    if answer.status_code != 200:
        return answer
    page = json.loads(answer.content)
    page["data"] = [report for event in page["data"] for report in reports_of(event)]
    return JsonResponse(page)


@csrf_exempt
@require_POST
@api_key_required
def deliver_again(request: HttpRequest, event: str) -> HttpResponse:
    """Deliver an event to one of the addresses, as ``stripe events resend`` does."""
    answer = fetch(request, f"/v1/events/{source_of(event)}")
    if answer.status_code != 200:
        return answer
    (report,) = (
        each for each in reports_of(json.loads(answer.content)) if each["id"] == event
    )
    try:
        status = deliver(report, request.POST["webhook_endpoint"])
    except KeyError:
        return stripe_error(400, "invalid_request_error", "No such webhook endpoint.")
    except httpx.HTTPError:
        return stripe_error(504, "api_error", "The webhook endpoint did not answer.")
    return JsonResponse({"id": event, "status": status})
