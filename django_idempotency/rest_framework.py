from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, ClassVar

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.exceptions import NotAcceptable
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from .bodies import hold_body
from .http import Idempotency
from .policies import IdempotencyPolicy
from .protected_views import RestView, check_object, handle_confined, prepare
from .protection import HONOUR_KEY, NonAtomicRequests, is_protected, protect

__all__ = ["IdempotencyMixin"]

if TYPE_CHECKING:
    _Base = APIView
else:
    _Base = object


class IdempotencyMixin(_Base):
    """Protect every unsafe handler of a REST framework view or viewset.

    List it before the view class. Authentication, permissions, throttles, negotiation
    and parsers run before anything is looked up; the handler and the rendering run in
    one transaction with the claim and the stored answer. PUT and DELETE are protected
    when a key is sent; ``policy.required`` is about POST and PATCH.
    """

    idempotency_policy: ClassVar[IdempotencyPolicy | None] = IdempotencyPolicy()
    """How the handlers are protected; ``None``: they aren't."""

    _idempotency_not_acceptable: NotAcceptable | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if APIView in order and order.index(APIView) < order.index(IdempotencyMixin):
            raise ImproperlyConfigured(
                f"{cls.__name__} would not be protected: the mixin comes after the view "
                f"class. Write\n\n    class {cls.__name__}(IdempotencyMixin, …View):"
            )

    @classmethod
    def as_view(cls, *args: Any, **kwargs: Any) -> Any:
        if not issubclass(cls, APIView):
            raise ImproperlyConfigured(
                f"{cls.__name__} is no REST framework view, so that IdempotencyMixin "
                "would do nothing. On Django's own views write\n\n"
                '    @method_decorator(idempotent, name="post")'
            )
        view = super().as_view(*args, **kwargs)
        non_atomic = NonAtomicRequests.of(view)

        @wraps(view)
        def protected_view(
            request: HttpRequest, *args: Any, **kwargs: Any
        ) -> HttpResponseBase:
            if request.method in HONOUR_KEY:
                request._idempotency_boundary = non_atomic  # type: ignore[attr-defined]
                return view(request, *args, **kwargs)
            with non_atomic.as_django_would():
                return view(request, *args, **kwargs)

        protected_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]
        return protected_view

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        """Return the policy for this request; ``None``: don't protect it.

        Called after ``initial()``, so that ``self.action`` and ``self.request`` are
        there.
        """
        return self.idempotency_policy

    def check_replay(self, request: Request) -> None:
        """Raise if this caller may no longer see what the first call answered.

        Runs before a stored answer is sent again. On a detail route the default fetches
        the object, so that object permissions are asked; an object that is gone is what
        a repeated DELETE expects to find.

        Raises:
            APIException, Http404, PermissionDenied: answered as in a handler.
        """
        check_object(self, request)

    def dispatch(
        self, request: HttpRequest, *args: Any, **kwargs: Any
    ) -> HttpResponseBase:
        if not is_protected(request):
            request.idempotency = Idempotency()  # type: ignore[attr-defined]
            if request.method in HONOUR_KEY:
                # Before authentication and permissions, which may read the stream.
                hold_body(request)
        return super().dispatch(request, *args, **kwargs)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Hold NotAcceptable back: a stored answer goes out as it is stored."""
        try:
            return super().perform_content_negotiation(request, force)
        except NotAcceptable as error:
            if request.method not in HONOUR_KEY or is_protected(request._request):
                raise
            self._idempotency_not_acceptable = error
            return super().perform_content_negotiation(request, force=True)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in HONOUR_KEY or is_protected(request._request):
            return
        name = request.method.lower()
        handler = getattr(self, name, None)
        if handler is None or name not in self.http_method_names:
            return
        policy = self.get_idempotency_policy()
        if policy is None:
            setattr(self, name, partial(self._run_unprotected, handler))
        else:
            setattr(self, name, partial(self._run_protected, handler, policy))

    def handle_exception(self, exc: Exception) -> Response:
        """Keep the framework from rolling back a transaction that isn't ours."""
        request = self.request._request
        if request.method not in HONOUR_KEY:
            return super().handle_exception(exc)
        response: Response = handle_confined(request, super().handle_exception, exc)
        return response

    def _run_unprotected(
        self, handler: Callable[..., Any], request: Request, *args: Any, **kwargs: Any
    ) -> Any:
        self._refuse_unacceptable()
        # Missing where another class's as_view() stands before ours: then Django has
        # opened its transaction itself.
        boundary = vars(request._request).get("_idempotency_boundary")
        with boundary.as_django_would() if boundary else nullcontext():
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
