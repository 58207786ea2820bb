"""One request to one operation: what ninja does before us, within us, and after us.

Note [An operation in two halves]
What ninja does with a request is one method, `Operation.run()`: it checks who is calling,
parses, calls the function, and makes a response of what that returns, or of what it
raised. The transaction has to begin before the function and to end after the response. So
the method runs twice, on two copies of the operation. The outer one checks and parses,
and gets a finished response from its function. The inner one has nothing left to check or
to parse, and makes that response. What an exception comes to is asked of ninja once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import Any, ClassVar, TypeVar

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from ninja.operation import Operation

from django_idempotency.core.operations import StoredAnswer
from django_idempotency.engine.threads import in_thread
from django_idempotency.exceptions import CallRefused, LeaseLost, OutcomeUnknown
from django_idempotency.http.answers import replay_of
from django_idempotency.http.asking import asks
from django_idempotency.http.bodies import watch_body
from django_idempotency.http.boundary import METHODS_WITH_KEYS, is_protected, show
from django_idempotency.http.notes import notes_of
from django_idempotency.http.outcomes import Answer
from django_idempotency.http.pages import keep_from_caches
from django_idempotency.http.protection import rendered
from django_idempotency.http.requests import may_carry_key

from .principals import known_as

C = TypeVar("C")

OURS = (CallRefused, LeaseLost, OutcomeUnknown)
"""What we answer, whatever the project's exception handlers do."""

IN_THE_BODY = {"body", "form", "file"}

running: ContextVar[Call] = ContextVar("idempotency_ninja_call")
"""What ninja runs just now."""


@dataclass(slots=True, eq=False)
class Call:
    """One request to one operation."""

    protected: Any
    """The function that ``@idempotent`` has made for it."""
    operation: Operation
    request: HttpRequest
    path: dict[str, Any]
    """The parts of the route."""
    runs_once: bool
    """Whether it is an unsafe request that nothing further out protects."""
    response: HttpResponse | None = field(default=None, init=False)
    """What ninja gives the operation to set headers and cookies on."""
    raised: Exception | None = field(default=None, init=False)
    """What the operation raised, or the making of its response, in this try."""
    passed_on: Exception | None = field(default=None, init=False)
    """What ninja's exception handlers have raised again."""

    def outer(self) -> Operation:
        """Return the operation that checks, parses, and gets a finished response."""
        changes: dict[str, Any] = {
            "api": _changed(
                self.operation.api,
                create_temporal_response=self._begin,
                on_exception=self._handle_outside,
            ),
            "stream_format": None,
        }
        if asks(self.request):  # a question has no body that could be parsed
            models = [
                each
                for each in self.operation.models
                if each.__ninja_param_source__ not in IN_THE_BODY
            ]
            changes |= _with_models(self.operation, models)
        return _changed(self.operation, **changes)

    def inner(self, call: Callable[[], Any]) -> Operation:
        """Return the operation that only makes a response of what `call` returns."""
        # A decorator further out may have tried before: its work was rolled back by that.
        self.raised = None

        def view(request: HttpRequest, **values: Any) -> Any:
            return call()

        return _changed(
            self.operation,
            view_func=view,
            auth_callbacks=[],
            throttle_objects=[],
            api=_changed(
                self.operation.api,
                create_temporal_response=lambda request: self.response,
                on_exception=self._handle,
            ),
            **_with_models(self.operation, []),
        )

    def run_once(
        self, view: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> OperationView:
        return OperationView(self, partial(view, *args, **kwargs))

    def _begin(self, request: HttpRequest) -> HttpResponse:
        self.response = self.operation.api.create_temporal_response(request)
        return self.response

    def _handle(self, request: HttpRequest, error: Exception) -> HttpResponse:
        if isinstance(error, OURS):
            self.passed_on = error
            raise error
        self.raised = error
        try:
            return self.operation.api.on_exception(request, error)
        except Exception as raised:
            self.passed_on = raised
            raise

    def _handle_outside(self, request: HttpRequest, error: Exception) -> HttpResponse:
        if error is self.passed_on:
            raise error
        return self.operation.api.on_exception(request, error)


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation with the arguments of one request, as protection needs it."""

    call: Call
    view: Callable[[], Any]

    has_object: ClassVar[bool] = False
    checks_at_end: ClassVar[bool] = False
    check_replay: ClassVar[None] = None

    @property
    def request(self) -> HttpRequest:
        return self.call.request

    def run(self) -> Answer:
        operation = self.call.inner(self.view)
        response = operation.run(self.request, **self.call.path)
        return Answer(rendered(response, self.view), self.call.raised)

    async def arun(self) -> Answer:
        operation: Any = self.call.inner(self.view)
        response = await operation.run(self.request, **self.call.path)
        return Answer(await in_thread(rendered, response, self.view), self.call.raised)

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        return replay_of(answer, self.request)


def entrance(protected: Any, run: Any) -> Any:
    """Decorate an operation's `run()`: it notes for the protected function what is run.

    Of each copy that ninja makes of an operation, the method is decorated anew.
    """
    operation: Operation = run.__self__

    @wraps(run)
    def enter(request: HttpRequest, **path: Any) -> HttpResponseBase:
        with _entered(protected, operation, request, path) as entered:
            return keep_from_caches(request, entered.run(request, **path))

    @wraps(run)
    async def enter_async(request: HttpRequest, **path: Any) -> HttpResponseBase:
        with _entered(protected, operation, request, path) as entered:
            response: HttpResponseBase = await entered.run(request, **path)  # type: ignore[misc]
            return keep_from_caches(request, response)

    # It isn't known as async yet where it is being made.
    return enter_async if iscoroutinefunction(run) else enter


@contextmanager
def _entered(
    protected: Any, operation: Operation, request: HttpRequest, path: dict[str, Any]
) -> Iterator[Operation]:
    """Yield the operation to run; below it `running` is the call."""
    is_inside = is_protected(request)
    runs_once = request.method in METHODS_WITH_KEYS and not is_inside
    call = Call(protected, operation, request, path, runs_once)
    if not is_inside:
        show(request, None)
    if runs_once:
        notes_of(request).known_as = partial(known_as, operation)
        if may_carry_key(request):
            watch_body(request)  # before authentication, which may read the stream
    token = running.set(call)
    try:
        yield call.outer() if runs_once else _changed(operation)
    finally:
        running.reset(token)


def _changed(original: C, **changes: Any) -> C:
    """Return a shallow copy, without what decorators have put around its `run()`."""
    changed = copy(original)
    vars(changed).pop("run", None)
    vars(changed).update(changes)
    return changed


def _with_models(operation: Operation, models: list[Any]) -> dict[str, Any]:
    """Return the changes after which only these are parsed."""
    # django-ninja-extra asks the signature.
    signature = _changed(operation.signature, models=models)
    return {"models": models, "signature": signature}
