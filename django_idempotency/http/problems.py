"""Problem documents: what a client gets in place of the view's answer (RFC 9457)."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import translation
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from django_idempotency.conf import conf

from .people import is_from_a_form, page_of

logger = logging.getLogger("django_idempotency")

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise as StrPromise


REFERENCE_HEADER = "Idempotency-Reference"
"""What people call the operation by, on each answer to a request with a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One way to refuse a request; contains nothing of the request itself."""

    code: str
    """Stable and never translated: programs rely on it."""
    status: int
    title: str | StrPromise
    detail: str | StrPromise
    """What to do, for the programmer who reads it; customers read `FOR_PEOPLE`."""
    retry_after_seconds: int | None = None


KEY_MISSING = Problem(
    code="key-missing",
    status=400,
    title=_("An idempotency key is required"),
    detail=_(
        "Make a random key before the first attempt, send it in the {header} header, "
        "and send the same key again with each retry of this request."
    ),
)
KEY_INVALID = Problem(
    code="key-invalid",
    status=400,
    title=_("The idempotency key can't be used"),
    detail="{reason}",
)
KEY_FOREIGN = Problem(
    code="key-foreign",
    status=400,
    title=_("This form was made for another browser"),
    detail=_(
        "Nothing was done. Open the page with the form again, with cookies allowed, and "
        "send it from there."
    ),
)
SIGN_IN_REQUIRED = Problem(
    code="sign-in-required",
    status=401,
    title=_("Sign in first"),
    detail=_("Nothing was done. Sign in, and send the request again."),
)
BODY_TOO_LARGE = Problem(
    code="body-too-large",
    status=413,
    title=_("The request is too large"),
    detail=_(
        "Nothing was done. Send less at a time, each request with a key of its own."
    ),
)
KEY_REUSED = Problem(
    code="key-reused",
    status=422,
    title=_("The idempotency key was used for another request"),
    detail=_(
        "The first request with this key had another payload, and its outcome stands. "
        "If you mean a new request, make a new key."
    ),
)
POSSIBLE_DUPLICATE = Problem(
    code="possible-duplicate",
    status=409,
    title=_("The same was just asked for under another key"),
    detail=_(
        "Nothing was done now. If it is meant once, the first one stands. If you mean "
        "another one, send the same request again with the first one's reference in the "
        "Idempotency-Confirm header."
    ),
)
IN_FLIGHT = Problem(
    code="in-flight",
    status=409,
    title=_("The first request with this key is still running"),
    detail=_(
        "Wait as long as the Retry-After header says, then send the same request with "
        "the same key again."
    ),
    retry_after_seconds=1,
)
OUTCOME_UNKNOWN = Problem(
    code="outcome-unknown",
    status=409,
    title=_("The outcome of this request is being looked into"),
    detail=_(
        "It may or may not have happened, and a person has to find out. Don't send it "
        "under a new key."
    ),
)
CALL_REFUSED = Problem(
    code="call-refused",
    status=402,
    title=_("The request was refused by the other side"),
    detail=_(
        "It was not carried out, and the same request would be refused again. If you "
        "change it, such as to another card, make a new key."
    ),
)
ANSWER_UNAVAILABLE = Problem(
    code="answer-unavailable",
    status=409,
    title=_("The request was carried out, but its answer can't be shown again"),
    detail=_("Look the outcome up another way. Don't send it under a new key."),
)
OPERATION_UNKNOWN = Problem(
    code="operation-unknown",
    status=404,
    title=_("Nothing is known of a request with this key"),
    detail=_(
        "It has not been carried out and was not running just now, though a copy may "
        "still be on its way. If it is still wanted, send it with the same key."
    ),
)
UNFINISHED = Problem(
    code="unfinished",
    status=409,
    title=_("The request was begun, and isn't finished"),
    detail=_(
        "Nobody is working on it now. Send the same request with the same key again; "
        "don't send it under a new key."
    ),
)
STATE_UNAVAILABLE = Problem(
    code="state-unavailable",
    status=503,
    title=_("It can't be told just now"),
    detail=_(
        "Nothing is said of the request that you ask about. Wait as long as the "
        "Retry-After header says, then ask again, or send it again with the same key."
    ),
    retry_after_seconds=1,
)
ASK_INVALID = Problem(
    code="ask-invalid",
    status=400,
    title=_("This can't be asked"),
    detail="{reason}",
)
ANSWER_EXPIRED = Problem(
    code="answer-expired",
    status=409,
    title=_("The request is too old to be answered again"),
    detail=_(
        "It was received before, and its answer isn't kept any more. Nothing was done "
        "now. Look the outcome up another way. Don't send it under a new key."
    ),
)
STORE_UNAVAILABLE = Problem(
    code="store-unavailable",
    status=503,
    title=_("The request could not be accepted just now"),
    detail=_(
        "Nothing was done. Wait as long as the Retry-After header says, then send the "
        "same request with the same key again."
    ),
    retry_after_seconds=1,
)


PROBLEMS = (
    KEY_MISSING,
    KEY_INVALID,
    KEY_FOREIGN,
    SIGN_IN_REQUIRED,
    BODY_TOO_LARGE,
    KEY_REUSED,
    POSSIBLE_DUPLICATE,
    IN_FLIGHT,
    OUTCOME_UNKNOWN,
    CALL_REFUSED,
    ANSWER_UNAVAILABLE,
    ANSWER_EXPIRED,
    STORE_UNAVAILABLE,
    OPERATION_UNKNOWN,
    UNFINISHED,
    STATE_UNAVAILABLE,
    ASK_INVALID,
)
"""All of them, in the order of the reference."""

Retry = Literal["same-key", "new-key", "no"]

RETRY: dict[str, Retry] = {
    KEY_MISSING.code: "new-key",
    KEY_INVALID.code: "new-key",
    KEY_FOREIGN.code: "new-key",
    SIGN_IN_REQUIRED.code: "no",
    BODY_TOO_LARGE.code: "new-key",
    # The content may have changed from attempt to attempt, and the first was carried out.
    KEY_REUSED.code: "no",
    # Not without somebody who says that another one is meant.
    POSSIBLE_DUPLICATE.code: "no",
    IN_FLIGHT.code: "same-key",
    OUTCOME_UNKNOWN.code: "no",
    CALL_REFUSED.code: "new-key",
    ANSWER_UNAVAILABLE.code: "no",
    ANSWER_EXPIRED.code: "no",
    STORE_UNAVAILABLE.code: "same-key",
    OPERATION_UNKNOWN.code: "same-key",
    UNFINISHED.code: "same-key",
    STATE_UNAVAILABLE.code: "same-key",
    ASK_INVALID.code: "no",
}
"""What a program may do by itself after each of them, in the member ``retry``.

``same-key``: send the same request with the same key; it ends in an answer. ``new-key``:
nothing was done, and what is named has to be mended; the next request takes a new key.
``no``: neither; under a new key it might be done twice, or somebody has to act first.
"""

OF_QUESTIONS = (OPERATION_UNKNOWN, UNFINISHED, STATE_UNAVAILABLE, ASK_INVALID)
"""Told to those who ask what became of a request, and to nobody else."""


def problem_response(
    problem: Problem,
    request: HttpRequest,
    *,
    reason: str = "",
    retry_after: timedelta | None = None,
    reference: str = "",
    state: str = "",
    first: dict[str, str | int] | None = None,
    again: list[tuple[str, str]] | None = None,
) -> HttpResponse:
    """Return the problem as JSON, or as a page to a browser that sent a form.

    The page has words of its own: whoever reads it knows nothing of keys. `reason` is
    the detail of KEY_INVALID; `retry_after`, if given, replaces the problem's own.
    `reference` is what people call the operation by, and `state` how it stands, where
    that was asked; `first` is what a possible duplicate may be one of, and `again` are
    the fields with which a form on the page says that it is none. The page is
    ``django_idempotency/<code>.html`` if the project has that template, else
    ``django_idempotency/problem.html``. What IDEMPOTENCY_PROBLEM_RESPONSE makes takes the
    place of both.
    """
    detail = _detail(problem, reason)
    document = _document(problem, detail, reference, state, first)
    response = _made_by_project(request, document)
    if response is None and is_from_a_form(request):
        page = page_of(problem, request, reference, first, again)
        if page is not None:
            response = HttpResponse(page, status=problem.status)
    if response is None:
        response = JsonResponse(
            document, status=problem.status, content_type="application/problem+json"
        )
    if reference:
        response.headers[REFERENCE_HEADER] = reference
    if problem.status == 401:
        # Required by RFC 9110, 15.5.2; there is no registered name for what Django does.
        response.headers["WWW-Authenticate"] = "Session"
    seconds = problem.retry_after_seconds
    if retry_after is not None:
        seconds = max(1, math.ceil(retry_after.total_seconds()))
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    return response


def _detail(problem: Problem, reason: str) -> str:
    names = {"header": conf.IDEMPOTENCY_HEADER, "reason": reason}
    try:
        return problem.detail.format(**names)
    except (LookupError, ValueError):
        # Mistaken in a project's own catalogue, where nothing looks at such names.
        with translation.override(None):
            return problem.detail.format(**names)


def _document(
    problem: Problem,
    detail: str,
    reference: str,
    state: str,
    first: dict[str, str | int] | None,
) -> dict[str, object]:
    document: dict[str, object] = {
        "type": f"{conf.IDEMPOTENCY_PROBLEM_BASE_URL}{problem.code}",
        "title": str(problem.title),
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
        "retry": RETRY[problem.code],
    }
    if reference:
        document["reference"] = reference
    if state:
        document["state"] = state
    if first:
        document["first"] = first
    return document


def _made_by_project(
    request: HttpRequest, document: dict[str, object]
) -> HttpResponse | None:
    """Return what the project's hook makes of the document; ``None``: nothing that fits.

    As with its pages, an error in it must not become a 500, after which a client would
    try again, nor a success, after which it would think that the work was done.
    """
    path = conf.IDEMPOTENCY_PROBLEM_RESPONSE
    if path is None:
        return None
    try:
        response = import_string(path)(request, dict(document))
        if response is not None and not isinstance(response, HttpResponse):
            raise TypeError(f"It returned {type(response).__name__}.")
        if response is not None and response.status_code < 400:
            raise ImproperlyConfigured(
                f"It returned the status {response.status_code}."
            )
        # Django would do so later, where nothing takes the place of what fails.
        if not getattr(response, "is_rendered", True):
            response.render()  # type: ignore[union-attr]
    except Exception:
        logger.exception(
            "IDEMPOTENCY_PROBLEM_RESPONSE = %r can't answer the problem %s; the "
            "package's own answer was sent.",
            path,
            document["code"],
        )
        return None
    return response
