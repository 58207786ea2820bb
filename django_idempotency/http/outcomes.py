"""What becomes of a view's answer: kept, released, noted. The mirror of `decide()`.

`outcome_of()` is pure: it uses no database and no clock, and only the settings with
which the answer would be stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

from django_idempotency.engine.work import Outcome
from django_idempotency.exceptions import AnsweredElsewhere, CallRefused, name_of
from django_idempotency.policies import IdempotencyPolicy

from .answers import is_sent_to_sign_in, snapshot


@dataclass(frozen=True, slots=True)
class Answer:
    """A view's result: a rendered response, and the error that it was made from."""

    response: HttpResponseBase
    """Rendered."""
    raised: Exception | None = None
    """Set where a framework turned an exception into the response."""
    asks_again: bool = False
    """Whether it asks for another attempt, as a form with errors does."""


def outcome_of(
    answer: Answer,
    policy: IdempotencyPolicy,
    request: HttpRequest,
    *,
    has_key: bool = True,
) -> Outcome[HttpResponseBase]:
    """Return whether the work is committed, what a repeat gets, and what is noted.

    What was returned below 400 is always committed, since the caller takes it for done.
    Without a key the same answers are committed and the same ones rolled back, and
    nothing is stored or noted.
    """
    response, raised = answer.response, answer.raised
    asks_again = answer.asks_again or is_sent_to_sign_in(response, request)
    is_kept = policy.keep(response) and not asks_again
    if raised is not None:
        # The work is rolled back, but the answer can still be kept afterwards.
        is_stored = has_key and is_kept and policy.keeps_errors
        return Outcome(
            value=response,
            commits=False,
            answer=snapshot(response, policy, request) if is_stored else None,
            is_final=is_stored,
            failure=name_of(raised) if response.status_code >= 500 else None,
        )
    claims_success = response.status_code < 400
    return Outcome(
        value=response,
        commits=is_kept or claims_success,
        answer=snapshot(response, policy, request) if is_kept and has_key else None,
        # Committed, though a repeat may run anew: the caller was told of success.
        is_final=is_kept or (claims_success and not asks_again),
        claims_success=claims_success,
        failure=None if is_kept or asks_again else "",
    )


# What Django, or the protection, turns into an answer below 500
# (django.core.handlers.exception).
REFUSALS = (
    AnsweredElsewhere,
    CallRefused,
    Http404,
    PermissionDenied,
    MultiPartParserError,
    BadRequest,
    SuspiciousOperation,
)


def failure_of(error: BaseException) -> str | None:
    """Return what to note about an error that left the view; ``None``: nothing.

    A refusal did no work, and a row for each bad input would let anyone fill the table.
    """
    return None if isinstance(error, REFUSALS) else name_of(error)
