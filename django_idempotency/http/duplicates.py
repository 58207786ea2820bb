"""What is told to whoever asks for the same under another key, and how it is confirmed."""

from __future__ import annotations

from datetime import timedelta

from django.http import HttpRequest, HttpResponse
from django.utils.cache import patch_cache_control

from django_idempotency.core.decisions import Duplicate
from django_idempotency.core.operations import Intent, Operation, reference_of
from django_idempotency.policies import IdempotencyPolicy

from . import problems
from .again import fields_to_send_again
from .bodies import FORM, MULTIPART, form_field

CONFIRM_HEADER = "Idempotency-Confirm"
"""Names the first one, by its reference: another one is meant."""
CONFIRM_FIELD = "idempotency_confirm"
"""The same in a form."""

_IN_META = "HTTP_IDEMPOTENCY_CONFIRM"


def intent_of(
    request: HttpRequest, policy: IdempotencyPolicy, *, is_guest: bool
) -> Intent | None:
    """Return whether the same under another key is to be asked about.

    Not of guests: they share one principal, so that one of them would be told of, and be
    kept from his own by, what another one does.
    """
    window = policy.effective_intent_window
    if not window or is_guest:
        return None
    confirms: str = request.META.get(_IN_META, "")
    if not confirms and request.content_type in (FORM, MULTIPART):
        confirms = form_field(request, CONFIRM_FIELD) or ""
    return Intent(window, confirms)


def possible_duplicate(
    verdict: Duplicate, request: HttpRequest, operation: Operation
) -> HttpResponse:
    first: dict[str, str | int] = {
        "reference": reference_of(verdict.first_id),
        # Two clocks may differ a little.
        "age_seconds": max(0, verdict.age // timedelta(seconds=1)),
    }
    if verdict.about:
        first["about"] = verdict.about
    again = fields_to_send_again(
        request, **{CONFIRM_FIELD: reference_of(verdict.first_id)}
    )
    response = problems.problem_response(
        problems.POSSIBLE_DUPLICATE,
        request,
        reference=operation.reference,
        first=first,
        again=again,
    )
    if again:  # which isn't for the disk either
        patch_cache_control(response, private=True, no_store=True)
    return response
