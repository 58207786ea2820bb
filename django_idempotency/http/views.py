"""The two kinds of view that can be protected, as a `ProtectedView` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

from django_idempotency.core.operations import StoredAnswer
from django_idempotency.exceptions import CallRefused, LeaseLost, OutcomeUnknown
from django_idempotency.store.records import record_alias

from .answers import FRAMEWORKS_OWN, replay_of, type_of
from .boundary import is_protected
from .notes import notes_of
from .outcomes import Answer
from .protection import rendered

JSON = "application/json"

REPLAYED = "django_idempotency.rest_framework.ReplayedResponse"
"""By its name, since only that module may import the framework, which is there by now."""


@dataclass(frozen=True, slots=True)
class PlainView:
    """A function view, or a handler method of a class-based one."""

    request: HttpRequest
    call: Callable[[], HttpResponseBase]

    has_object: ClassVar[bool] = False
    checks_at_end: ClassVar[bool] = False
    check_replay: ClassVar[None] = None

    def run(self) -> Answer:
        return Answer(rendered(self.call(), self.call))

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        return replay_of(answer, self.request)


class RestView:
    """A handler of a REST framework view; the framework itself is not imported.

    The view's own `finalize_response` and `handle_exception` are called here, inside the
    transaction, so the bytes that the client gets are kept. `dispatch` will call both
    again, so that on the instance each leaves alone what it has had before. Anything else
    goes through it: a decorator further out may try again, or answer in its own way.
    """

    def __init__(self, view: Any, request: Any, call: Callable[[], Any]) -> None:
        self.view = view
        self.request = request
        self.call = call

    def run(self) -> Answer:
        raised = None
        try:
            response = fetching_noted(self.view, self.call)
        except (CallRefused, LeaseLost, OutcomeUnknown):
            raise  # we answer these, whatever the project's exception handler does
        except Exception as error:
            raised = error
            response = self._handled(error)
        response = self.view.finalize_response(
            self.request, response, *self.view.args, **self.view.kwargs
        )
        return Answer(rendered(response, self.call), raised)

    @property
    def has_object(self) -> bool:
        return has_object(self.view)

    @property
    def checks_at_end(self) -> bool:
        return getattr(self.view, "idempotency_check_at_end", True) is not False

    def check_replay(self, has_object: bool) -> None:
        if has_object:
            self.view._idempotency_has_object = True
        check = getattr(self.view, "check_replay", partial(check_object, self.view))
        check(self.request)

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        """Return a response of the framework's own class, if the first was one.

        Tests and middleware ask it for its `data` and its renderer, or render it anew.
        Only JSON gives its data back, and an empty body, which has none.
        """
        request, kind = self.request, type_of(answer)
        is_json = kind is None or kind == JSON or kind.endswith("+json")
        if FRAMEWORKS_OWN not in answer.extras or not is_json:
            return replay_of(answer, request._request)
        response = replay_of(answer, request._request, import_string(REPLAYED))
        renderers = [
            each for each in self.view.get_renderers() if each.media_type == kind
        ]
        vars(response).update(
            accepted_renderer=(*renderers, request.accepted_renderer)[0],
            accepted_media_type=kind or request.accepted_media_type,
            renderer_context=self.view.get_renderer_context(),
        )
        return response

    def finish(self, response: HttpResponseBase) -> HttpResponseBase:
        """Return the response to `dispatch`, which must leave it as it is."""
        finalize = self.view.finalize_response
        self.view.finalize_response = partial(_finalized, finalize, response)
        return response

    def _handled(self, error: Exception) -> Any:
        handle = self.view.handle_exception
        try:
            return handle(error)
        except Exception as passed_on:
            self.view.handle_exception = partial(_handled, handle, passed_on)
            raise


def prepare(request: Any) -> HttpRequest:
    """Let the framework authenticate, and return Django's request.

    If the request were authenticated only later, all users would be anonymous and share
    one scope. Whether it is parsed is the view's affair.
    """
    django_request: HttpRequest = request._request
    request.user  # noqa: B018 - told to Django's request as well
    notes_of(django_request).view_request = request
    return django_request


def has_object(view: Any) -> bool:
    """Whether `get_object()` can say who may see the answer.

    It can where the route names the object in the view's own way, unless it is a list's;
    and, whatever the names are, where the handler has fetched its object by it.
    """
    if hasattr(view, "_idempotency_has_object"):
        return True
    if not hasattr(view, "get_object") or _is_of_a_list(view):
        return False
    lookup = getattr(view, "lookup_url_kwarg", None) or getattr(
        view, "lookup_field", None
    )
    return lookup in view.kwargs


def _is_of_a_list(view: Any) -> bool:
    """Whether a router says so, or the view creates: then a name is that of its parent."""
    is_detail: bool | None = getattr(view, "detail", None)
    if is_detail is not None:
        return not is_detail
    is_create = getattr(view, "action", None) in (None, "create")
    return is_create and hasattr(view, "create") and view.request.method == "POST"


def fetching_noted(view: Any, call: Callable[[], Any]) -> Any:
    """Call the handler, and note on the view whether it fetches by `get_object()`."""
    if has_object(view) or not hasattr(view, "get_object"):
        return call()
    get_object = view.get_object

    def noted(*args: Any, **kwargs: Any) -> Any:
        found = get_object(*args, **kwargs)
        if not (args or kwargs):  # which we would not know at a repeat
            view._idempotency_has_object = True
        return found

    view.get_object = noted
    try:
        return call()
    finally:
        del view.get_object


def check_object(view: Any, request: Any) -> None:
    """Fetch the object, if there is one, so that its permissions are checked."""
    if has_object(view):
        view.get_object()


def handle_confined(
    request: HttpRequest, handle: Callable[[Exception], Any], error: Exception
) -> Any:
    """Let the framework answer an error from outside of the protected part.

    The framework's `set_rollback` marks whatever transaction is open on a database with
    ATOMIC_REQUESTS, assuming that Django opened it. Here Django didn't, so it can only
    be a caller's, such as a test case's; a savepoint confines the mark.
    """
    using = record_alias()
    if is_protected(request) or not connections[using].in_atomic_block:
        return handle(error)
    with transaction.atomic(using=using):
        return handle(error)


def _finalized(
    finalize: Callable[..., Any],
    final: HttpResponseBase,
    request: Any,
    response: Any,
    *args: Any,
    **kwargs: Any,
) -> Any:
    return (
        response if response is final else finalize(request, response, *args, **kwargs)
    )


def _handled(
    handle: Callable[[Exception], Any], passed_on: Exception, error: Exception
) -> Any:
    if error is passed_on:
        raise error
    return handle(error)
