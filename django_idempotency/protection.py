"""What every delivery does with a request: refuse, replay, or run it once.

`protect()` is given the view as a `ProtectedView`, which hides whether it is a function,
a handler method or a framework's view; everything else is the same for all of them.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.db import Error, connections, transaction
from django.http import Http404, HttpRequest
from django.http.multipartparser import MultiPartParserError
from django.http.response import HttpResponseBase

from . import engine, leasing, problems, signals, store
from .answers import is_login_redirect, replay_of, snapshot
from .bodies import hold_body
from .conf import conf
from .decisions import Held, InFlight, Mismatch, Replay, Unreadable
from .engine import Outcome, Ran, Result
from .exceptions import InvalidKey, StoreUnavailable, name_of
from .http import Idempotency, key_of, operation_of
from .models import IdempotencyRecord
from .operations import Operation, StoredAnswer
from .policies import IdempotencyPolicy
from .problems import problem_response
from .steps import RunningSteps, Steps, in_thread

__all__ = ["Answer", "NonAtomicRequests", "ProtectedView", "aprotect", "protect"]

logger = logging.getLogger("django_idempotency")

REQUIRE_KEY = frozenset({"POST", "PATCH"})
HONOUR_KEY = REQUIRE_KEY | {"PUT", "DELETE"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a view came to: a rendered response, and the error it was made from."""

    response: Any
    """A rendered `HttpResponseBase`, or the nonsense that a view returned instead."""
    raised: Exception | None = None
    """Set where a framework turned an exception into the response."""


class ProtectedView(Protocol):
    """One view with the arguments of one request."""

    @property
    def request(self) -> Any:
        """The request as the view gets it: Django's, or a framework's wrapper."""

    def run(self) -> Answer:
        """Run the view and render its response, inside the transaction."""

    def check_replay(self) -> None:
        """Raise what the view would raise for a caller who may no longer see it."""


AsyncView = Callable[[], Awaitable[Any]]
"""An async view with the arguments of one request."""


class NonAtomicRequests:
    """The databases for which Django must not open ATOMIC_REQUESTS around a view.

    Django asks the outermost view function for its ``_non_atomic_requests``. The
    record's database is one of them, since we open that transaction ourselves; which it
    is can't be known at import. Those that the view itself had named stay.
    """

    def __init__(self, named: Collection[str]) -> None:
        self._named = set(named)

    @classmethod
    def of(cls, view: Any) -> NonAtomicRequests:
        """Return the view's own, which a decorator further in has made, or a new one."""
        named = getattr(view, "_non_atomic_requests", ())
        return named if isinstance(named, cls) else cls(named)

    def __contains__(self, alias: object) -> bool:
        return alias in self._named or alias == store.record_alias()

    def add(self, alias: str) -> None:
        """Called by ``@transaction.non_atomic_requests`` above us."""
        self._named.add(alias)

    def as_django_would(self) -> AbstractContextManager[Any]:
        """Return the transaction that ATOMIC_REQUESTS would have opened, if any."""
        alias = store.record_alias()
        wanted = connections[alias].settings_dict["ATOMIC_REQUESTS"]
        if wanted and alias not in self._named:
            return transaction.atomic(using=alias)
        return nullcontext()


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
    if asked is None:
        return _run_unkeyed(request, policy, view)
    return _run_once(request, asked, policy, view)


async def aprotect(
    request: HttpRequest, policy: IdempotencyPolicy, view: AsyncView
) -> HttpResponseBase:
    """`protect` for an async view in the leased shape.

    Whatever may ask the database runs in the thread of this request's connections.
    """
    asked = await in_thread(_asked, request, policy)
    if isinstance(asked, HttpResponseBase):
        return asked
    using = store.record_alias()

    async def work(steps: Steps) -> Outcome[HttpResponseBase]:
        with _marked(request, steps):
            response = await view()
        return _outcome_of(Answer(await in_thread(rendered, response)), policy)

    if asked is None:
        return (await work(RunningSteps.without_key())).value
    try:
        result = await leasing.arun(asked, work, using=using, failure_of=_failure_of)
    except StoreUnavailable as error:
        return await in_thread(_unavailable, request, error)
    return await in_thread(_response_to, result, request, asked)


def _asked(
    request: HttpRequest, policy: IdempotencyPolicy, view_request: Any = None
) -> Operation | HttpResponseBase | None:
    """Return the operation, the refusal, or ``None``: without a key, and it may."""
    try:
        key = key_of(request)
        if key is not None:
            hold_body(request)
            return operation_of(
                request, key, policy, view_request=view_request or request
            )
    except InvalidKey as error:
        return problem_response(problems.KEY_INVALID, request, reason=str(error))
    if request.method in REQUIRE_KEY:
        _report_unkeyed(request)
        if policy.key_required:
            return problem_response(problems.KEY_MISSING, request)
    return None


def _report_unkeyed(request: HttpRequest) -> None:
    """Tell who would be refused, or is, where keys are required."""
    logger.info("idempotency unkeyed", extra={"action": "unkeyed", "request": request})
    signals.unkeyed.send_robust(sender=IdempotencyRecord, request=request)


def _run_unkeyed(
    request: HttpRequest, policy: IdempotencyPolicy, view: ProtectedView
) -> HttpResponseBase:
    work = partial(_unkeyed_outcome, request, policy, view)
    if policy.lease is not None:
        return work(RunningSteps.without_key()).value
    return engine.run_unkeyed(work, using=store.record_alias())


def _run_once(
    request: HttpRequest,
    operation: Operation,
    policy: IdempotencyPolicy,
    view: ProtectedView,
) -> HttpResponseBase:
    shape = engine if operation.lease is None else leasing
    try:
        result = shape.run(
            operation,
            partial(_outcome, request, policy, view),
            using=store.record_alias(),
            failure_of=_failure_of,
        )
    except StoreUnavailable as error:
        return _unavailable(request, error)
    if isinstance(result, Replay):
        view.check_replay()
    return _response_to(result, request, operation)


def _unavailable(request: HttpRequest, error: Exception) -> HttpResponseBase:
    logger.error(
        "idempotency unavailable: a request could not be claimed",
        exc_info=error,
        extra={"action": "unavailable"},
    )
    return problem_response(problems.STORE_UNAVAILABLE, request)


def _response_to(
    result: Result[HttpResponseBase], request: HttpRequest, operation: Operation
) -> HttpResponseBase:
    match result:
        case Ran(response):
            return response
        case Replay(answer):
            engine.report("replayed", operation)
            return _replay(operation, answer, store.record_alias())
        case InFlight(retry_after):
            return problem_response(
                problems.IN_FLIGHT, request, retry_after=retry_after
            )
        case Mismatch():
            return problem_response(problems.KEY_REUSED, request)
        case Held():
            return problem_response(problems.OUTCOME_UNKNOWN, request)
        case Unreadable():  # pragma: no branch - mypy proves there is no other
            return problem_response(problems.ANSWER_UNAVAILABLE, request)


def rendered(response: Any) -> Any:
    """Render a template or framework response, inside the transaction."""
    if not getattr(response, "is_rendered", True):
        response.render()
    return response


def is_protected(request: HttpRequest) -> bool:
    """Whether a protected view is running on this request, further out."""
    is_active: bool = getattr(request, "_idempotency_is_active", False)
    return is_active


@contextmanager
def _marked(request: HttpRequest, steps: Steps) -> Iterator[None]:
    """Show the view its operation, and inner protected views that there is one."""
    request.idempotency = Idempotency(steps)  # type: ignore[attr-defined]
    request._idempotency_is_active = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        request._idempotency_is_active = False  # type: ignore[attr-defined]


def _outcome(
    request: HttpRequest, policy: IdempotencyPolicy, view: ProtectedView, steps: Steps
) -> Outcome[HttpResponseBase]:
    with _marked(request, steps):
        answer = view.run()
    return _outcome_of(answer, policy)


def _outcome_of(answer: Answer, policy: IdempotencyPolicy) -> Outcome[HttpResponseBase]:
    response = answer.response
    if not isinstance(response, HttpResponseBase):
        # Django has a good sentence for a view that returned nothing.
        return Outcome(value=response, keep=False, failure="")
    wanted = _is_wanted(response, policy)
    if answer.raised is not None:
        failure = name_of(answer.raised) if response.status_code >= 500 else None
        return Outcome(
            value=response,
            keep=False,
            answer=_kept_error(response, policy, wanted=wanted),
            failure=failure,
        )
    if not wanted:
        failure = None if is_login_redirect(response) else ""
        return Outcome(value=response, keep=False, failure=failure)
    return Outcome(
        value=response,
        keep=True,
        answer=snapshot(response, policy),
        claims_success=response.status_code < 400,
    )


def _unkeyed_outcome(
    request: HttpRequest, policy: IdempotencyPolicy, view: ProtectedView, steps: Steps
) -> Outcome[HttpResponseBase]:
    with _marked(request, steps):
        answer = view.run()
    response = answer.response
    if not isinstance(response, HttpResponseBase):
        return Outcome(value=response, keep=False)
    return Outcome(
        value=response,
        keep=answer.raised is None and _is_wanted(response, policy),
        claims_success=response.status_code < 400,
    )


def _is_wanted(response: HttpResponseBase, policy: IdempotencyPolicy) -> bool:
    return policy.keep(response) and not is_login_redirect(response)


def _kept_error(
    response: HttpResponseBase, policy: IdempotencyPolicy, *, wanted: bool
) -> StoredAnswer | None:
    return snapshot(response, policy) if policy.keep_errors and wanted else None


# What Django turns into an answer below 500 (django.core.handlers.exception).
REFUSALS = (
    Http404,
    PermissionDenied,
    MultiPartParserError,
    BadRequest,
    SuspiciousOperation,
)


def _failure_of(error: BaseException) -> str | None:
    """A refusal did nothing; rows for bad input would let anyone fill the table."""
    return None if isinstance(error, REFUSALS) else name_of(error)


def _replay(operation: Operation, answer: StoredAnswer, using: str) -> HttpResponseBase:
    response = replay_of(answer)
    if conf.IDEMPOTENCY_COUNT_REPLAYS:
        # When the response is closed: after the last byte has been sent.
        count = partial(_count_replay, operation.record_id, using)
        response._resource_closers.append(count)  # type: ignore[attr-defined]
    return response


def _count_replay(record_id: uuid.UUID, using: str) -> None:
    # The look-up has left it open, unless the response is closed in another thread:
    # there a connection would be opened that nobody closes.
    if connections[using].connection is None:
        return
    try:
        store.count_replay(record_id, using=using)
    except Error as error:
        logger.info("A replay was not counted: %s", type(error).__name__)
