"""What happens to a request with an unsafe method: refuse, replay, or run it once.

`protect()` gets the view as a `ProtectedView`, which hides whether it is a function, a
handler method or a framework's view; everything else is the same for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_idempotency import signals
from django_idempotency.conf import conf
from django_idempotency.core.decisions import (
    Held,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
)
from django_idempotency.core.operations import Operation, StoredAnswer
from django_idempotency.engine import running
from django_idempotency.engine.idempotency import Confined
from django_idempotency.engine.reporting import report
from django_idempotency.engine.steps import RunningSteps, Steps
from django_idempotency.engine.threads import in_thread
from django_idempotency.engine.work import Outcome, Ran, Result
from django_idempotency.exceptions import (
    CallRefused,
    InvalidKey,
    KeyOfAnother,
    StoreUnavailable,
)
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.store import records

from . import boundary, problems
from .access import Checked, check_replay, with_refusal
from .answers import replay_of
from .boundary import METHODS_THAT_REQUIRE_KEYS
from .endings import ended, left_open
from .outcomes import Answer, failure_of, outcome_of
from .pages import keep_from_caches
from .problems import problem_response
from .requests import is_refused_guest, is_too_large, key_of, operation_of

logger = logging.getLogger("django_idempotency")


class ProtectedView(Checked, Protocol):
    """One view with the arguments of one request."""

    @property
    def request(self) -> Any:
        """The request as the view gets it: Django's, or a framework's wrapper."""

    def run(self) -> Answer:
        """Run the view and render its response, inside the transaction."""

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        """Return the stored answer as a response such as the view makes."""


AsyncView = Callable[[], Awaitable[Any]]
"""An async view with the arguments of one request."""


def protect(
    request: HttpRequest, policy: IdempotencyPolicy, view: ProtectedView
) -> HttpResponseBase:
    """Answer a request with an unsafe method; the view runs at most once per key.

    Raises:
        Exception: whatever the view raises, and `BrokenTransaction`.
    """
    asked = _asked(request, policy, view.request)
    if isinstance(asked, HttpResponseBase):
        return asked
    try:
        if asked is None:
            return _run_unkeyed(request, policy, view)
        return _run_once(request, asked, policy, view)
    except CallRefused:
        return _refused(request)


async def aprotect(
    request: HttpRequest, policy: IdempotencyPolicy, view: AsyncView
) -> HttpResponseBase:
    """`protect` for an async view in the leased shape.

    Whatever may ask the database runs in the thread of this request's connections.
    """
    asked = await in_thread(_asked, request, policy)
    if isinstance(asked, HttpResponseBase):
        return asked

    async def work(steps: Steps) -> Outcome[HttpResponseBase]:
        with boundary.Running(request, steps):
            response = await view()
        answer = Answer(await in_thread(rendered, response, view))
        keep_from_caches(request, answer.response)  # with what is stored of it
        return outcome_of(answer, policy, request)

    try:
        if asked is None:
            with Confined():
                return (await work(RunningSteps.without_key())).value
        result = await running.arun(asked, work, failure_of)
    except CallRefused:
        return await in_thread(_refused, request)
    except StoreUnavailable as error:
        return await in_thread(_unavailable, request, error)
    replay = partial(replay_of, request=request)
    return await in_thread(_response_to, result, request, asked, replay)


def _asked(
    request: HttpRequest, policy: IdempotencyPolicy, view_request: Any = None
) -> Operation | HttpResponseBase | None:
    """Return the operation or the refusal; ``None``: no key, and none required."""
    if is_too_large(request, policy):
        return problem_response(problems.BODY_TOO_LARGE, request)
    try:
        key = key_of(request, policy)
        is_required = (
            policy.key_required and request.method in METHODS_THAT_REQUIRE_KEYS
        )
        if (is_required or key is not None) and is_refused_guest(request):
            return problem_response(problems.SIGN_IN_REQUIRED, request)
        if key is not None:
            return operation_of(
                request, key, policy, view_request=view_request or request
            )
    except KeyOfAnother:
        return problem_response(problems.KEY_FOREIGN, request)
    except InvalidKey as error:
        return problem_response(problems.KEY_INVALID, request, reason=str(error))
    if request.method in METHODS_THAT_REQUIRE_KEYS:
        _report_unkeyed(request)
        if is_required:
            return problem_response(problems.KEY_MISSING, request)
    return None


def _report_unkeyed(request: HttpRequest) -> None:
    """Report a caller without a key, who is refused where keys are required."""
    logger.info("idempotency unkeyed", extra={"action": "unkeyed", "request": request})
    signals.unkeyed.send_robust(sender=IdempotencyRecord, request=request)


def _work(
    request: HttpRequest,
    policy: IdempotencyPolicy,
    view: ProtectedView,
    steps: Steps,
    *,
    has_key: bool,
) -> Outcome[HttpResponseBase]:
    with boundary.Running(request, steps):
        answer = view.run()
    keep_from_caches(request, answer.response)  # with what is stored of it
    outcome = outcome_of(answer, policy, request, has_key=has_key)
    if outcome.answer is not None and outcome.commits and view.check_replay is not None:
        return replace(outcome, answer=with_refusal(outcome.answer, view))
    return outcome


def _run_unkeyed(
    request: HttpRequest, policy: IdempotencyPolicy, view: ProtectedView
) -> HttpResponseBase:
    work = partial(_work, request, policy, view, has_key=False)
    return running.run_unkeyed(work, in_transaction=policy.lease is None)


def _run_once(
    request: HttpRequest,
    operation: Operation,
    policy: IdempotencyPolicy,
    view: ProtectedView,
) -> HttpResponseBase:
    work = partial(_work, request, policy, view, has_key=True)
    try:
        result = running.run(operation, work, failure_of)
    except StoreUnavailable as error:
        return _unavailable(request, error)
    if isinstance(result, Replay):
        check_replay(view, result.answer)
    return _response_to(result, request, operation, view.replay_of)


def _refused(request: HttpRequest) -> HttpResponse:
    # A retry would be refused again; what comes next is another operation.
    return ended(problem_response(problems.CALL_REFUSED, request), request)


def _unavailable(request: HttpRequest, error: Exception) -> HttpResponseBase:
    logger.error(
        "idempotency unavailable: a request could not be claimed",
        exc_info=error,
        extra={"action": "unavailable"},
    )
    return problem_response(problems.STORE_UNAVAILABLE, request)


def _response_to(
    result: Result[HttpResponseBase],
    request: HttpRequest,
    operation: Operation,
    replay: Callable[[StoredAnswer], HttpResponse],
) -> HttpResponseBase:
    match result:
        case Ran(response, is_final):
            return ended(response, request) if is_final else left_open(response)
        case Replay(answer):
            report("replayed", operation)
            return _counted(ended(replay(answer), request), operation)
        case InFlight(retry_after):
            return problem_response(
                problems.IN_FLIGHT, request, retry_after=retry_after
            )
        case Mismatch():
            return ended(problem_response(problems.KEY_REUSED, request), request)
        case Held():
            return problem_response(problems.OUTCOME_UNKNOWN, request)
        case Unreadable():  # pragma: no branch - mypy proves there is no other
            return problem_response(problems.ANSWER_UNAVAILABLE, request)


def rendered(response: Any, view: Callable[..., Any]) -> HttpResponseBase:
    """Render the view's template or framework response, inside the transaction.

    Raises:
        ImproperlyConfigured: `view` returned something else, of which a decorator
            further out would make an answer that we never see.
        ValueError: it returned nothing; in Django's words.
    """
    if not isinstance(response, HttpResponseBase):
        raise _no_response(response, _name_of(view))
    if not getattr(response, "is_rendered", True):
        response.render()  # type: ignore[attr-defined]
    return response


def _name_of(view: Callable[..., Any]) -> str:
    while isinstance(view, partial):
        view = view.func
    name = getattr(view, "__qualname__", type(view).__qualname__)
    return f"{view.__module__}.{name}"


def _no_response(result: object, view: str) -> Exception:
    if result is None:
        return ValueError(
            f"The view {view} didn't return an HttpResponse object. It returned None "
            "instead."
        )
    return ImproperlyConfigured(
        f"The view {view} returned a {type(result).__name__}, not an HttpResponse. "
        "@idempotent stores what the client gets, so it must stand around whatever makes "
        "the response. Nothing was committed. Write\n\n"
        "    @idempotent\n"
        "    @the_decorator_that_makes_the_response\n"
        f"    def {view.rpartition('.')[2]}(request):"
    )


def _counted(response: HttpResponse, operation: Operation) -> HttpResponse:
    if conf.IDEMPOTENCY_COUNT_REPLAYS:
        # Called when the response is closed, after the last byte has been sent.
        count = partial(_count_replay, operation)
        response._resource_closers.append(count)  # type: ignore[attr-defined]
    return response


def _count_replay(operation: Operation) -> None:
    # The look-up has left the connection open. If there is none, the response is closed
    # in another thread, where nobody would close a new connection.
    if connections[operation.using].connection is None:
        return
    try:
        records.count_replay(operation)
    except Error as error:
        logger.info("A replay was not counted: %s", type(error).__name__)
