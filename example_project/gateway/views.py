"""What the gateway offers: payments and refunds, each once per idempotency key."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest

from .api_keys import api_key_required
from .backend import forward, outcome_is_final
from .stripe_errors import stripe_errors


@csrf_exempt
@require_POST
@api_key_required
@stripe_errors
@idempotent(required=False, keep=outcome_is_final, retention=timedelta(hours=24))
def create(request: IdempotentRequest) -> HttpResponse:
    """Make a payment or refund, once per key."""
    return forward(request)
