"""The two kinds of view that can be protected, as a `ProtectedView` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from django.db import connections, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.datastructures import MultiValueDict
from django.utils.module_loading import import_string

from django_idempotency.core.operations import StoredAnswer
from django_idempotency.exceptions import LeaseLost, OutcomeUnknown
from django_idempotency.store.records import record_alias

from .answers import FRAMEWORKS_OWN, replay_of, type_of
from .bodies import hold_body
from .boundary import is_protected
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

    def run(self) -> Answer:
        return Answer(rendered(self.call(), self.call))

    def check_replay(self) -> None:
        """Do nothing: the access checks are further out and have passed."""

    def replay_of(self, answer: StoredAnswer) -> HttpResponse:
        return replay_of(answer, self.request)


class RestView:
    """A handler of a REST framework view; the framework itself is not imported.

    The view's own `finalize_response` and `handle_exception` are called here, inside the
    transaction, so the bytes that the client gets are kept. Once the response is final,
    both are replaced on the instance, since `dispatch` will call them again.
    """

    def __init__(self, view: Any, request: Any, call: Callable[[], Any]) -> None:
        self.view = view
        self.request = request
        self.call = call

    def run(self) -> Answer:
        raised = None
        try:
            response = self.call()
        except (LeaseLost, OutcomeUnknown):
            raise  # we answer these, whatever the project's exception handler does
        except Exception as error:
            raised = error
            response = self._handled(error)
        response = self.view.finalize_response(
            self.request, response, *self.view.args, **self.view.kwargs
        )
        return Answer(rendered(response, self.call), raised)

    def check_replay(self) -> None:
        """Call the view's check, in a transaction such as the handler has."""
        check = getattr(self.view, "check_replay", partial(check_object, self.view))
        with transaction.atomic(using=record_alias()):
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
        self.view.finalize_response = _unchanged
        return response

    def _handled(self, error: Exception) -> Any:
        try:
            return self.view.handle_exception(error)
        except Exception:
            self.view.handle_exception = _reraise
            raise


def prepare(request: Any) -> HttpRequest:
    """Let the framework authenticate and parse, and return Django's request.

    Its refusals happen here, as without us, for first calls and replays. If the request
    were authenticated only later, all users would be anonymous and share one scope.
    """
    django_request: HttpRequest = request._request
    hold_body(django_request)
    request.user  # noqa: B018 - told to Django's request as well
    request.data  # noqa: B018 - parsed once
    if not getattr(django_request, "_files", None):
        # Closed with the request, even if the view never uses them.
        files = MultiValueDict({name: [file] for name, file in request.FILES.items()})
        django_request._files = files  # type: ignore[attr-defined]
    return django_request


def check_object(view: Any, request: Any) -> None:
    """On a detail route, fetch the object, so that object permissions are checked.

    For a repeated DELETE the object may be gone.
    """
    lookup = getattr(view, "lookup_url_kwarg", None) or getattr(
        view, "lookup_field", None
    )
    if lookup not in view.kwargs or not hasattr(view, "get_object"):
        return
    try:
        view.get_object()
    except Http404:
        if request.method != "DELETE":
            raise


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


def _unchanged(
    request: Any, response: HttpResponseBase, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    return response


def _reraise(error: Exception) -> NoReturn:
    raise error
