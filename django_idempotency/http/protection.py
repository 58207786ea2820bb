"""What happens to a request with an unsafe method: refuse, replay, or run it once.

`protect()` gets the view as a `ProtectedView`, which hides whether it is a function, a
handler method or a framework's view; everything else is the same for all of them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from django_idempotency import signals
from django_idempotency.conf import conf
from django_idempotency.core.decisions import (
    Duplicate,
    Expired,
    Held,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
)
from django_idempotency.core.history import Happening
from django_idempotency.core.operations import Operation, StoredAnswer, on_one_line
from django_idempotency.engine import running
from django_idempotency.engine.idempotency import Confined
from django_idempotency.engine.reporting import report, report_busy
from django_idempotency.engine.steps import RunningSteps, Steps
from django_idempotency.engine.threads import in_thread
from django_idempotency.engine.work import Outcome, Ran, Result
from django_idempotency.exceptions import (
    AnsweredElsewhere,
    CallRefused,
    InvalidKey,
    KeyOfAnother,
    StoreBusy,
    StoreUnavailable,
)
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy

from . import afterwards, boundary, problems
from .access import Checked, check_replay, with_refusal
from .answers import replay_of
from .asking import asks, told
from .boundary import METHODS_THAT_REQUIRE_KEYS
from .duplicates import possible_duplicate
from .endings import ended, expiring, left_open
from .moving import in_both_stores, require_atomic
from .outcomes import Answer, failure_of, outcome_of
from .pages import keep_from_caches
from .problems import REFERENCE_HEADER, Problem, problem_response
from .requests import is_refused_guest, is_too_large, key_of, operation_of, path_of

logger = logging.getLogger("django_idempotency")


R = TypeVar("R", bound=HttpResponseBase)


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
"""An async view with the arguments of one request; it may return an `Answer`."""


@dataclass
class _Progress:
    """How far one request's view has come: what it raises, we could have raised, too.

    It may use the package itself, for a task or in a callback after the commit, and the
    client must not be told that nothing was done where that is true of those only.
    """

    has_begun: bool = False
    has_returned: bool = False


def protect(
    request: HttpRequest, policy: IdempotencyPolicy, view: ProtectedView
) -> HttpResponseBase:
    """Answer a request with an unsafe method; the view runs at most once per key.

    Raises:
        Exception: whatever the view raises, and `BrokenTransaction`.
    """
    if asks(request):
        return told(request, policy, view.replay_of, partial(check_replay, view))
    asked = _asked(request, policy, view.request)
    if isinstance(asked, HttpResponseBase):
        return asked
    progress = _Progress()
    try:
        if asked is None:
            return _run_unkeyed(request, policy, view, progress)
        return _run_once(request, asked, policy, view, progress)
    except CallRefused:
        if progress.has_returned:
            raise
        return _refused(request, asked)


async def aprotect(
    request: HttpRequest, policy: IdempotencyPolicy, view: AsyncView
) -> HttpResponseBase:
    """`protect` for an async view in the leased shape.

    Whatever may ask the database runs in the thread of this request's connections.
    """
    replay = partial(replay_of, request=request)
    if asks(request):
        return await in_thread(told, request, policy, replay)
    asked = await in_thread(_asked, request, policy)
    if isinstance(asked, HttpResponseBase):
        return asked

    progress = _Progress()

    async def work(steps: Steps) -> Outcome[HttpResponseBase]:
        progress.has_begun = True
        with boundary.Running(request, steps):
            answer = await view()
        if not isinstance(answer, Answer):
            answer = Answer(await in_thread(rendered, answer, view))
        keep_from_caches(request, answer.response)  # with what is stored of it
        return outcome_of(answer, policy, request)

    try:
        if asked is None:
            with Confined():
                return (await work(RunningSteps.without_key())).value
        require_atomic(asked)
        begun = time.monotonic()
        result = await running.arun(asked, work, failure_of)
    except CallRefused:
        return await in_thread(_refused, request, asked)
    except StoreUnavailable as error:
        if progress.has_begun:
            raise
        return await in_thread(_unavailable, request, asked, error)
    waited = time.monotonic() - begun
    return await in_thread(_response_to, result, request, asked, replay, waited)


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
    if logger.isEnabledFor(logging.INFO):
        logger.info(
            "idempotency unkeyed: %s",
            on_one_line(f"{request.method} {path_of(request)}"),
            extra={"action": "unkeyed", "request": request},
        )
    signals.unkeyed.send_robust(sender=IdempotencyRecord, request=request)


def _work(
    request: HttpRequest,
    policy: IdempotencyPolicy,
    view: ProtectedView,
    progress: _Progress,
    steps: Steps,
    *,
    has_key: bool,
) -> Outcome[HttpResponseBase]:
    progress.has_begun = True
    with boundary.Running(request, steps):
        answer = view.run()
    progress.has_returned = True
    keep_from_caches(request, answer.response)  # with what is stored of it
    outcome = outcome_of(answer, policy, request, has_key=has_key)
    if outcome.answer is not None and outcome.commits and view.has_object:
        return replace(outcome, answer=with_refusal(outcome.answer, view))
    return outcome


def _run_unkeyed(
    request: HttpRequest,
    policy: IdempotencyPolicy,
    view: ProtectedView,
    progress: _Progress,
) -> HttpResponseBase:
    work = partial(_work, request, policy, view, progress, has_key=False)
    return running.run_unkeyed(work, in_transaction=policy.lease is None)


def _run_once(
    request: HttpRequest,
    operation: Operation,
    policy: IdempotencyPolicy,
    view: ProtectedView,
    progress: _Progress,
) -> HttpResponseBase:
    work = partial(_work, request, policy, view, progress, has_key=True)
    begun = time.monotonic()
    try:
        work_in_both = in_both_stores(work, request, operation)
        result = running.run(operation, work_in_both, failure_of)
    except AnsweredElsewhere as elsewhere:
        result = elsewhere.verdict
    except StoreUnavailable as error:
        if progress.has_begun:
            raise
        return _unavailable(request, operation, error)
    waited = time.monotonic() - begun
    if isinstance(result, Replay):
        check_replay(view, result.answer)
    return _response_to(result, request, operation, view.replay_of, waited)


def _refused(request: HttpRequest, operation: Operation | None) -> HttpResponse:
    # A retry would be refused again; what comes next is another operation.
    refusal = _problem(problems.CALL_REFUSED, request, operation)
    return ended(refusal, request)


def _problem(
    problem: Problem,
    request: HttpRequest,
    operation: Operation | None,
    retry_after: timedelta | None = None,
) -> HttpResponse:
    if operation is None:
        return problem_response(problem, request, retry_after=retry_after)
    response = problem_response(
        problem, request, retry_after=retry_after, reference=operation.reference
    )
    return _named(response, operation)


def _named(response: R, operation: Operation) -> R:
    """Say which operation the answer belongs to."""
    response.headers[REFERENCE_HEADER] = operation.reference
    if conf.IDEMPOTENCY_ECHO_KEY:
        response.headers[conf.IDEMPOTENCY_HEADER] = operation.key
    return response


def _unavailable(
    request: HttpRequest, operation: Operation, error: StoreUnavailable
) -> HttpResponseBase:
    if isinstance(error, StoreBusy):
        report_busy()
        return _problem(problems.STORE_UNAVAILABLE, request, operation)
    logger.error(
        "idempotency unavailable: a request could not be claimed",
        exc_info=error,
        extra={"action": "unavailable"},
    )
    return _problem(problems.STORE_UNAVAILABLE, request, operation)


def _response_to(
    result: Result[HttpResponseBase],
    request: HttpRequest,
    operation: Operation,
    replay: Callable[[StoredAnswer], HttpResponse],
    waited: float,
) -> HttpResponseBase:
    match result:
        case Ran(response, is_final, is_kept):
            expiring(response, operation.kept_until if is_kept else None)
            response = _named(response, operation)
            return ended(response, request) if is_final else left_open(response)
        case Replay(answer, kept_until):
            report("replayed", operation)
            response = ended(expiring(replay(answer), kept_until), request)
            response = _named(response, operation)
            return afterwards.count_replay(response, operation, waited)
        case InFlight(retry_after):
            response = _problem(problems.IN_FLIGHT, request, operation, retry_after)
            if retry_after is None:  # the first one's row isn't committed
                return response
            return afterwards.note(response, operation, Happening.IN_FLIGHT, waited)
        case Mismatch():
            response = ended(_problem(problems.KEY_REUSED, request, operation), request)
            return afterwards.note(response, operation, Happening.MISMATCHED, waited)
        case Duplicate(first_id):
            response = _named(possible_duplicate(result, request, operation), operation)
            return afterwards.note_duplicate(response, operation, first_id, waited)
        case Held():
            response = _problem(problems.OUTCOME_UNKNOWN, request, operation)
            return afterwards.hold(response, operation, waited)
        case Unreadable():
            return _problem(problems.ANSWER_UNAVAILABLE, request, operation)
        case Expired():  # pragma: no branch - mypy proves there is no other
            return _problem(problems.ANSWER_EXPIRED, request, operation)


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
