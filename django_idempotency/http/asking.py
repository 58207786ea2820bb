"""A client that lost its answer asks what became of its request.

Note [A question is the request itself]
Whose operation it is, and who may know of it, is said by the view's own address, its
access checks and its throttles. So the question goes through all of them: it is a GET for
the address of the operation, and once the URL has been resolved to a protected view, it
is shown to that view as the request that it asks about. The protection then tells, in
place of running. On the wire it stays safe: a server that knows nothing of it answers as
to any GET, and nothing in front of the view acts on it.

Note [Its method stays]
Which handler runs is decided by the method at the very end, and the protection of one
says nothing of the others. Middleware and views that change it, as for forms that can't
send PUT, would lead the question to a handler that just works, without a token against
CSRF. So whoever changes it is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar, cast

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_idempotency.conf import conf
from django_idempotency.core.decisions import (
    Duplicate,
    Expired,
    Held,
    InFlight,
    Mismatch,
    Replay,
    Unanswered,
    Unfinished,
    Unknown,
    Unreadable,
)
from django_idempotency.core.operations import Operation, StoredAnswer
from django_idempotency.engine.asking import ask
from django_idempotency.engine.reporting import report
from django_idempotency.exceptions import InvalidKey, KeyOfAnother, StoreUnavailable
from django_idempotency.policies import IdempotencyPolicy

from . import afterwards, problems
from .boundary import METHODS_WITH_KEYS
from .dispatching import uses_name, working_class
from .endings import ended, expiring
from .ninja import operations_behind
from .notes import notes_of
from .placements import class_of, decorator_of, dispatches, is_marked, wrappers_of
from .problems import REFERENCE_HEADER, problem_response
from .requests import is_refused_guest, operation_asked_about

logger = logging.getLogger("django_idempotency")

ASK_HEADER = "Idempotency-Ask"
"""Names the method of the request that a GET for the same address asks about."""
IN_META = "HTTP_IDEMPOTENCY_ASK"

NOT_PROTECTED = gettext_lazy(
    "The view of this address doesn't protect that method, so nothing is known of it."
)

API_VIEW = "rest_framework.decorators.api_view"
"""Makes a class of a function, and its handler without `functools.wraps`."""

R = TypeVar("R", bound=HttpResponseBase)

STATE_HEADER = "Idempotency-State"
"""How the operation stands, on each answer of ours to a question and on no other."""


def begin(request: HttpRequest, view: Callable[..., Any]) -> HttpResponse | None:
    """Show a question to the view as the request that it is about; or refuse it.

    ``None``: it may go on to the view, also where it is no question.
    """
    method = request.META.get(IN_META)
    if method is None or request.method not in {"GET", *METHODS_WITH_KEYS}:
        return None
    if request.method != "GET":  # would be carried out by who doesn't know the header
        reason = _("Ask with GET. Nothing was done.")
    elif method not in METHODS_WITH_KEYS:
        reason = _("Only a POST, PUT, PATCH or DELETE can be asked about.")
    elif not is_protected_for(view, method):
        reason = str(NOT_PROTECTED)
    else:
        notes_of(request).asks = True
        request.method = method
        # See Note [Its method stays].
        request.__class__ = _question_class(cast("Any", type(request)))
        # Who can read the answer has sent a header that no other site's page can send.
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
        request._cache_update_cache = False  # type: ignore[attr-defined]
        return None
    refusal = problem_response(problems.ASK_INVALID, request, reason=reason)
    return keep_from_caches(refusal)


@cache
def _question_class(kind: type[Any]) -> type[Any]:
    return type(kind.__name__, (kind,), {"method": property(_method, _keep_method)})


def _method(request: HttpRequest) -> str:
    method: str = vars(request)["method"]
    return method


def _keep_method(request: HttpRequest, method: str) -> None:
    if method != _method(request):
        raise BadRequest(
            f"A question about {_method(request)} can't become one about {method}. "
            "Nothing was done."
        )


def keep_from_caches(response: R) -> R:
    """Let no cache keep the answer to a question, whatever the view says of its own."""
    response.headers["Cache-Control"] = "no-store"
    return response


def is_protected_for(view: Callable[..., Any], method: str) -> bool:
    """Whether a request with this method can only be run by the protection.

    Where that can't be seen for certain, it isn't: a function may know a protected one,
    and call another.
    """
    for operation in operations_behind(view):
        if method in operation.methods:
            return _is_wrapped(operation.view_func)
    view_class = class_of(view)
    if view_class is None:
        return _is_wrapped(view)
    actions: dict[str, str] = getattr(view, "actions", None) or {}
    name = actions.get(method.lower(), method.lower())
    is_mixed = hasattr(view_class, "get_idempotency_policy")
    if is_mixed or hasattr(view_class, name):
        # Then handlers are what is protected, and nobody may work in their place.
        if working_class(view_class) is not None:
            return False
        if is_mixed:  # it decides by request
            return True
    entered: list[Any] = [view]
    for dispatch in dispatches(view_class):  # pragma: no branch - Django's own ends it
        entered.append(dispatch)
        if not uses_name(dispatch, "dispatch"):
            break
    handler = getattr(view_class, name, None)
    if handler is not None and decorator_of(handler) == API_VIEW:
        entered += [cell.cell_contents for cell in handler.__closure__ or ()]
    return any(map(_is_wrapped, [*entered, handler]))


def _is_wrapped(function: Any) -> bool:
    """Whether it is protected, or says by `functools.wraps` that it calls what is."""
    return any(map(is_marked, wrappers_of(function)))


def asks(request: HttpRequest) -> bool:
    """Whether nothing may be run for this request."""
    return notes_of(request).asks


def not_protected(request: HttpRequest) -> HttpResponse:
    """Return the answer for a view that protects nothing of this request."""
    return problem_response(problems.ASK_INVALID, request, reason=str(NOT_PROTECTED))


def told(
    request: HttpRequest,
    policy: IdempotencyPolicy,
    replay: Callable[[StoredAnswer], HttpResponse],
    check: Callable[[StoredAnswer], None] = lambda answer: None,
) -> HttpResponseBase:
    """Tell what became of an operation: who asks gets what a repeat would be told.

    `check` raises if the caller may not see the answer any more.
    """
    operation = _operation(request, policy)
    if isinstance(operation, HttpResponse):
        return operation
    try:
        standing = ask(operation)
    except StoreUnavailable as error:
        logger.warning(
            "idempotency unavailable: a question could not be answered",
            exc_info=error,
            extra={"action": "unavailable"},
        )
        return problem_response(problems.STATE_UNAVAILABLE, request)
    if isinstance(standing, Replay):
        check(standing.answer)
        response = expiring(replay(standing.answer), standing.kept_until)
        return _replayed(response, request, operation)
    return _in_words(standing, request, operation)


def _operation(
    request: HttpRequest, policy: IdempotencyPolicy
) -> Operation | HttpResponse:
    if is_refused_guest(request):
        return problem_response(problems.SIGN_IN_REQUIRED, request)
    try:
        operation = operation_asked_about(request, policy)
    except KeyOfAnother:
        return problem_response(problems.KEY_FOREIGN, request)
    except InvalidKey as error:
        return problem_response(problems.KEY_INVALID, request, reason=str(error))
    if operation is None:
        return problem_response(problems.KEY_MISSING, request)
    return operation


def _replayed(
    response: HttpResponse, request: HttpRequest, operation: Operation
) -> HttpResponse:
    """The first answer, handed out: it counts as a replay like any other."""
    report("replayed", operation)
    response = ended(response, request)
    response.headers[REFERENCE_HEADER] = operation.reference
    response.headers[STATE_HEADER] = "done"
    return afterwards.count_replay(response, operation, 0)


def _in_words(
    standing: Unanswered, request: HttpRequest, operation: Operation
) -> HttpResponse:
    retry_after: timedelta | None = None
    match standing:
        case InFlight(retry_after):
            state, problem = "running", problems.IN_FLIGHT
        case Held():
            state, problem = "held", problems.OUTCOME_UNKNOWN
        case Unreadable():
            state, problem = "gone", problems.ANSWER_UNAVAILABLE
        case Expired():
            state, problem = "gone", problems.ANSWER_EXPIRED
        case Unknown() | Unfinished() if conf.IDEMPOTENCY_MOVING_FROM is not None:
            # An old process may have it; without the content nobody can look there.
            return problem_response(problems.STATE_UNAVAILABLE, request)
        case Unfinished():
            state, problem = "unfinished", problems.UNFINISHED
        case Unknown() | Mismatch() | Duplicate():  # pragma: no branch - mypy proves it
            # A mismatch is somebody else's, whose digest is the same.
            state, problem = "unknown", problems.OPERATION_UNKNOWN
    is_known = state != "unknown"
    response = problem_response(
        problem,
        request,
        retry_after=retry_after,
        reference=operation.reference if is_known else "",
        state=state,
    )
    response.headers[STATE_HEADER] = state
    return response
