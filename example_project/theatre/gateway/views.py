"""What the gateway offers: payments and refunds, each once per idempotency key, and a
look at a payment."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest

from .api_keys import api_key_required
from .backend import fetch, forward, outcome_is_final
from .stripe_errors import stripe_errors


@csrf_exempt
@require_POST
@api_key_required
@stripe_errors
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
