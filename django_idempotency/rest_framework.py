from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache, cached_property, partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.templatetags.static import static
from django.utils.html import format_html

from .conf import conf
from .http.asking import asks, not_protected
from .http.bodies import watch_body
from .http.boundary import (
    METHODS_THAT_REQUIRE_KEYS,
    METHODS_WITH_KEYS,
    NonAtomicRequests,
    enter,
    is_protected,
    show,
)
from .http.dispatching import uses_name
from .http.duplicates import CONFIRM_HEADER
from .http.endings import EXPIRES_HEADER
from .http.notes import notes_of
from .http.pages import fresh_key_for
from .http.problems import RETRY
from .http.protection import (
    protect,
)
from .http.requests import may_carry_key
from .http.views import (
    RestView,
    check_object,
    handle_confined,
    prepare,
)
from .policies import IdempotencyPolicy

try:
    from rest_framework.exceptions import APIException, NotAcceptable
    from rest_framework.renderers import BaseRenderer, BrowsableAPIRenderer
    from rest_framework.request import Request, clone_request
    from rest_framework.response import Response
    from rest_framework.views import APIView
except ImportError as error:
    raise ImportError(
        "django_idempotency.rest_framework needs Django REST framework: "
        "pip install django-idempotency[drf]"
    ) from error

__all__ = [
    "IdempotencyMixin",
    "IdempotentRequest",
    "RequestRefused",
    "problem_response",
]

if TYPE_CHECKING:
    from .engine.idempotency import Idempotency

    _Base = APIView
else:
    _Base = object


class IdempotentRequest(Request):
    """Annotation for the request that a protected handler gets."""

    if TYPE_CHECKING:
        idempotency: Idempotency


class RequestRefused(APIException):
    """A problem as REST framework's exception handler gets it."""

    def __init__(self, problem: dict[str, Any]) -> None:
        super().__init__(problem["detail"], problem["code"])
        self.status_code = problem["status"]
        self.problem = problem
        """All members of the problem document."""


def problem_response(
    request: HttpRequest, problem: dict[str, Any]
) -> HttpResponse | None:
    """Answer a problem of a REST framework view as that view answers an exception.

    For IDEMPOTENCY_PROBLEM_RESPONSE: the exception handler gets a `RequestRefused`, and
    what it returns is rendered by the renderer that was negotiated. ``None``, so that the
    package answers itself, where no view of the framework is running.
    """
    wrapped = notes_of(request).view_request
    if wrapped is None:
        return None
    view = wrapped.parser_context["view"]
    response: Response = view.finalize_response(
        wrapped,
        view.handle_exception(RequestRefused(problem)),
        *view.args,
        **view.kwargs,
    )
    rendered: HttpResponse = response.render()
    return rendered


class ReplayedResponse(Response):
    """A stored answer, rendered already, with its `data` for tests and middleware."""

    def __init__(self, *, status: int) -> None:
        super().__init__(status=status)
        del self.data  # which is read from the body when somebody asks for it

    @cached_property
    def data(self) -> Any:
        """The body as JSON: text, numbers, lists and dicts; ``None``: it holds none."""
        try:
            return json.loads(self.content)
        except ValueError:
            return None


class _KeyedForms:
    """Gives the forms of the browsable API a key, new with each page."""

    def get_rendered_html_form(
        self, data: Any, view: Any, method: str, request: Any
    ) -> Any:
        form = super().get_rendered_html_form(data, view, method, request)  # type: ignore[misc]
        if not isinstance(form, str) or not _is_keyed(view, method, request):
            return form
        return format_html("{}{}", _key_field(request), form)

    def get_raw_data_form(self, data: Any, view: Any, method: str, request: Any) -> Any:
        form = super().get_raw_data_form(data, view, method, request)  # type: ignore[misc]
        if form is not None and _is_keyed(view, method, request):
            # Raw data has no place for a field: a script sends it as a header.
            form.fields["_content"].help_text = format_html(
                '{}<script src="{}" defer></script>',
                _key_field(request),
                static("django_idempotency/browsable-api.js"),
            )
        return form


def _is_keyed(view: Any, method: str, request: Any) -> bool:
    return method in view._idempotency_by_method(request)


def _key_field(request: Any) -> str:
    return format_html(
        '<input type="hidden" name="{}" value="{}" autocomplete="off"'
        ' data-idempotency-header="{}">',
        conf.IDEMPOTENCY_FIELD,
        fresh_key_for(request._request),
        conf.IDEMPOTENCY_HEADER,
    )


@cache
def _keyed(kind: Any) -> type[Any]:
    return type(kind.__name__, (_KeyedForms, kind), {"__module__": kind.__module__})


class IdempotencyMixin(_Base):
    # Protects every unsafe handler of a REST framework view or viewset. Not a docstring:
    # what makes schemas takes that of the first class which has one, and would publish
    # ours to the clients of each view that has none.
    #
    # It is listed before the view class. Authentication, permissions, throttles and
    # negotiation run before anything is looked up; the handler, with the parser that it
    # asks for its data, and the rendering run in one transaction with the claim and the
    # stored answer. PUT and DELETE are protected when a key is sent; `policy.required`
    # is about POST and PATCH.

    idempotency_policy: ClassVar[IdempotencyPolicy | None] = IdempotencyPolicy()
    """How the handlers are protected; ``None`` protects none."""

    idempotency_check_at_end: ClassVar[bool] = True
    """Whether `check_replay()` is asked at the end of a first call as well."""

    _idempotency_not_acceptable: NotAcceptable | None = None
    _idempotency_handler: Any = None
    """The handler of this request, until `initial()` has protected it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if APIView in order and order.index(APIView) < order.index(IdempotencyMixin):
            raise ImproperlyConfigured(
                f"{cls.__name__} would not be protected: the mixin comes after the view "
                f"class. Write\n\n    class {cls.__name__}(IdempotencyMixin, …View):"
            )
        for each in order[: order.index(IdempotencyMixin)]:
            for name in ("dispatch", "initial"):
                if name in vars(each) and not uses_name(vars(each)[name], name):
                    raise ImproperlyConfigured(
                        f"{cls.__name__} would not be protected: {each.__name__}.{name}() "
                        "doesn't call the mixin's. Write in it\n\n"
                        f"        super().{name}(request, *args, **kwargs)"
                    )

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        if not issubclass(cls, APIView):
            raise ImproperlyConfigured(
                f"{cls.__name__} isn't a REST framework view, so IdempotencyMixin would "
                "do nothing. On Django's own views write\n\n"
                '    @method_decorator(idempotent, name="post")'
            )
        view = super().as_view(*args, **kwargs)
        non_atomic = NonAtomicRequests.of(view)

        @wraps(view)
        def protected_view(
            request: HttpRequest, *args: Any, **kwargs: Any
        ) -> HttpResponseBase:
            def call() -> HttpResponseBase:
                return view(request, *args, **kwargs)

            notes_of(request).non_atomic = non_atomic
            return enter(request, call, call, non_atomic)

        protected_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]
        return protected_view

    @property
    def idempotency(self) -> Idempotency:
        """The operation of this request, as in ``request.idempotency``."""
        operation: Idempotency = self.request._request.idempotency  # type: ignore[attr-defined]
        return operation

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        """Return the policy for this request; ``None``: don't protect it.

        Called after ``initial()``, when ``self.action`` and ``self.request`` are set.
        """
        return self.idempotency_policy

    def check_replay(self, request: Request) -> None:
        """Raise if this caller may no longer see what the first call answered.

        Runs before a stored answer is sent again. The default fetches the object of a
        detail route, so that object permissions are checked. There it also runs at the
        end of the first call, in a savepoint that is rolled back, to learn what that call
        itself has taken away: a refusal of the same kind is no hindrance later.

        Raises:
            APIException, Http404, PermissionDenied: answered as in a handler.
        """
        check_object(self, request)

    def get_renderers(self) -> list[BaseRenderer]:
        """Let the forms of the browsable API carry a key."""
        renderers = super().get_renderers()
        for each in renderers:
            if isinstance(each, BrowsableAPIRenderer):
                each.__class__ = _keyed(cast("Any", type(each)))
        return renderers

    def options(self, request: Any, *args: Any, **kwargs: Any) -> Response:
        """Tell also which methods take a key, and what a client goes by."""
        response: Response = super().options(request, *args, **kwargs)
        # A class after this one may answer in its own way.
        if isinstance(data := getattr(response, "data", None), dict):
            methods = self._idempotency_by_method(request)
            told: dict[str, Any] = {
                "header": conf.IDEMPOTENCY_HEADER,
                "expires": EXPIRES_HEADER,
                "retry": sorted(set(RETRY.values())),
                "methods": methods,
            }
            if any("intent_window_seconds" in each for each in methods.values()):
                told["confirm"] = CONFIRM_HEADER
            data["idempotency"] = told
        return response

    def _idempotency_by_method(self, request: Request) -> dict[str, dict[str, Any]]:
        """What the policy says of each method, asked as the method's own request would."""
        actions: dict[str, str] = getattr(self, "action_map", None) or {}
        own, told = self.request, {}
        action = vars(self).get("action")
        try:
            for method in sorted(METHODS_WITH_KEYS.intersection(self.allowed_methods)):
                self.request = clone_request(request, method)
                if actions:
                    vars(self)["action"] = actions.get(method.lower())
                if (policy := self._policy_without_content()) is not None:
                    must = policy.key_required and method in METHODS_THAT_REQUIRE_KEYS
                    seconds = policy.effective_retention.total_seconds()
                    told[method] = {"required": must, "retention_seconds": seconds}
                    if window := policy.effective_intent_window:
                        told[method]["intent_window_seconds"] = window.total_seconds()
        finally:
            self.request = own
            if actions:
                vars(self)["action"] = action
        return told

    def _policy_without_content(self) -> IdempotencyPolicy | None:
        """What a page or OPTIONS tells, for whose sake nothing may fail."""
        try:
            return self.get_idempotency_policy()
        except Exception:
            # It may choose by the content of a request that isn't there yet.
            return self.idempotency_policy

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        if not is_protected(request):
            show(request, None)
            if request.method in METHODS_WITH_KEYS and may_carry_key(request):
                # Before authentication and permissions, which may read the stream.
                watch_body(request)
        return super().dispatch(request, *args, **kwargs)

    def initialize_request(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> Request:
        """Put the handler away until `initial()` has protected it.

        A class that overrides both `dispatch()` and `initial()`, and calls others than
        the mixin's, would run it without protection.
        """
        name = (request.method or "").lower()
        handler = getattr(self, name, None)
        if (
            request.method in METHODS_WITH_KEYS
            and name in self.http_method_names
            and handler is not None
            and not is_protected(request)
        ):
            self._idempotency_handler = handler
            setattr(self, name, self._refuse_unprotected)
        return super().initialize_request(request, *args, **kwargs)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Hold NotAcceptable back: a stored answer goes out as it is stored."""
        try:
            return super().perform_content_negotiation(request, force)
        except NotAcceptable as error:
            if request.method not in METHODS_WITH_KEYS or is_protected(
                request._request
            ):
                raise
            self._idempotency_not_acceptable = error
            return super().perform_content_negotiation(request, force=True)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if (handler := self._idempotency_handler) is None:
            return
        name = (request.method or "").lower()
        policy = self.get_idempotency_policy()
        if policy is None and asks(request._request):
            setattr(self, name, self._tell_nothing)
        elif policy is None:
            setattr(self, name, partial(self._run_unprotected, handler))
        else:
            setattr(self, name, partial(self._run_protected, handler, policy))

    def handle_exception(self, exc: Exception) -> Response:
        """Keep the framework from rolling back a transaction that we did not open."""
        request = self.request._request
        if request.method not in METHODS_WITH_KEYS:
            return super().handle_exception(exc)
        response: Response = handle_confined(request, super().handle_exception, exc)
        return response

    def _refuse_unprotected(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise ImproperlyConfigured(
            f"{type(self).__name__} is not protected, since its initial() doesn't call "
            "IdempotencyMixin's. Nothing was done. Write in it\n\n"
            "        super().initial(request, *args, **kwargs)"
        )

    def _tell_nothing(
        self, request: Request, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        return not_protected(request._request)

    def _run_unprotected(
        self, handler: Callable[..., Any], request: Request, *args: Any, **kwargs: Any
    ) -> Any:
        self._refuse_unacceptable()
        # Not set where another class overrides as_view() before this mixin: then Django
        # has opened the transaction itself.
        non_atomic = notes_of(request._request).non_atomic
        with non_atomic.as_django_would() if non_atomic else nullcontext():
            return handler(request, *args, **kwargs)

    def _run_protected(
        self,
        handler: Callable[..., Any],
        policy: IdempotencyPolicy,
        request: Request,
        *args: Any,
        **kwargs: Any,
    ) -> HttpResponseBase:
        def call() -> Any:
            self._refuse_unacceptable()
            return handler(request, *args, **kwargs)

        django_request = prepare(request)
        view = RestView(self, request, call)
        return view.finish(protect(django_request, policy, view))

    def _refuse_unacceptable(self) -> None:
        if self._idempotency_not_acceptable is not None:
            raise self._idempotency_not_acceptable
