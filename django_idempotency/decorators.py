from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, Unpack, cast, overload

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.http import HttpRequest
from django.views import View

from .http.boundary import (
    METHODS_WITH_KEYS,
    NonAtomicRequests,
    enter,
    is_protected,
)
from .http.dispatching import lines_for, obstacle, working_class
from .http.ninja import CONTRIBUTIONS, refuse_misplacement, refuse_operation
from .http.placements import access_check_in, wrappers_of
from .http.protection import (
    aprotect,
    protect,
)
from .http.views import (
    PlainView,
    RestView,
    handle_confined,
    prepare,
)
from .policies import IdempotencyPolicy, PolicyOptions
from .store.records import record_alias

__all__ = ["idempotent"]

V = TypeVar("V", bound=Callable[..., Any])


@overload
def idempotent(view: V, /) -> V: ...
@overload
def idempotent(
    *, policy: IdempotencyPolicy | None = ..., **options: Unpack[PolicyOptions]
) -> Callable[[V], V]: ...
def idempotent(
    view: V | None = None,
    /,
    *,
    policy: IdempotencyPolicy | None = None,
    **options: Unpack[PolicyOptions],
) -> V | Callable[[V], V]:
    """Run the view once per key and give each repeat the first answer.

    ``@idempotent`` or ``@idempotent(wait=timedelta(seconds=2))``: the options are those
    of `IdempotencyPolicy`, or one ready-made `policy`. The view runs inside
    ``transaction.atomic()`` with the claim and the stored answer, for every POST, PATCH,
    PUT and DELETE; safe methods run as without the decorator. With a `lease` it runs
    outside of any transaction, and may be async.

    It stands directly above a function view and below every access check; below
    ``@api_view`` and ``@action``; on a class-based view under ``method_decorator`` or
    around ``as_view()``. The view finds its operation in ``request.idempotency``.

    Raises:
        ImproperlyConfigured: at import, where it could not keep these promises.
    """
    if policy is None:
        policy = IdempotencyPolicy(**options)
    elif options:
        raise ImproperlyConfigured("Give @idempotent a policy or options, not both.")
    decorate = partial(_protected, policy=policy)
    return decorate if view is None else decorate(view)


def _protected(view: Any, *, policy: IdempotencyPolicy) -> Any:
    _refuse_misplacement(view, policy)
    is_async = iscoroutinefunction(view)
    if _comes_from_as_view(view):
        _refuse_keep_errors(policy)
        run = _protected_class(view.view_class, policy).as_view(**view.view_initkwargs)
    else:
        run = partial(_run_function, view, policy, is_async)
    non_atomic = NonAtomicRequests.of(view)

    @wraps(view)
    def protected_view(*args: Any, **kwargs: Any) -> Any:
        return enter(
            _django_request(_request_in(args)),
            partial(view, *args, **kwargs),
            partial(run, *args, **kwargs),
            None if is_async else non_atomic,
        )

    if is_async:
        markcoroutinefunction(protected_view)
    protected_view._non_atomic_requests = non_atomic  # type: ignore[attr-defined]
    protected_view.idempotency_policy = policy  # type: ignore[attr-defined]
    setattr(protected_view, CONTRIBUTIONS, [refuse_operation])
    return protected_view


def _run_function(
    view: Any, policy: IdempotencyPolicy, is_async: bool, /, *args: Any, **kwargs: Any
) -> Any:
    request = _request_in(args)
    call = partial(view, *args, **kwargs)
    instance, dispatch = _dispatching_view(view, args)
    if instance is not None and not (
        _has_no_handler(instance, request) and _works(type(instance), dispatch)
    ):
        # Its access checks are in dispatch(): the handler is what runs once.
        _protect_handler(instance, request, policy)
        return call()
    return _run_handler(request, policy, call, is_async=is_async, joins=True)


def _run_handler(
    request: Any,
    policy: IdempotencyPolicy,
    call: Callable[[], Any],
    *,
    is_async: bool,
    joins: bool,
) -> Any:
    """Run a handler; `joins`: under ATOMIC_REQUESTS it is inside Django's transaction."""
    if is_async:
        _require_lease(request.method.lower(), policy)  # below dispatch() not seen yet
        _refuse_keep_errors(policy)
        return aprotect(request, policy, call)
    rest_view = (getattr(request, "parser_context", None) or {}).get("view")
    if rest_view is None:
        _refuse_keep_errors(policy)
        return protect(request, policy, PlainView(request, call))
    django_request = prepare(request)
    view = _RestFunction(rest_view, request, call)
    response = protect(django_request, policy, view)
    # A rollback of Django's transaction would undo the kept error, too.
    if joins and not policy.keeps_errors:
        view.hand_rollback_on()
    return view.finish(response)


def _protect_handler(instance: View, request: Any, policy: IdempotencyPolicy) -> None:
    name = request.method.lower()
    handler = getattr(instance, name, None)
    if handler is None or name not in instance.http_method_names:
        return

    is_async = iscoroutinefunction(handler)

    def protected_handler(request: Any, *args: Any, **kwargs: Any) -> Any:
        call = partial(handler, request, *args, **kwargs)
        if is_protected(_django_request(request)):
            return call()
        return _run_handler(request, policy, call, is_async=is_async, joins=False)

    setattr(instance, name, protected_handler)
    if hasattr(instance, "handle_exception"):
        confined = partial(handle_confined, _django_request(request))
        instance.handle_exception = partial(confined, instance.handle_exception)


def _has_no_handler(instance: View, request: Any) -> bool:
    return not hasattr(instance, request.method.lower())


def _works(view_class: type, dispatch: Any = None) -> bool:
    """Whether `dispatch()` does the work, and nothing stands before it.

    Raises:
        ImproperlyConfigured: another one does, and a replay would pass over it.
    """
    _refuse_obstacle(view_class, dispatch)
    return working_class(view_class, dispatch) is not None


def _protected_class(view_class: type[View], policy: IdempotencyPolicy) -> type[View]:
    """Return a subclass whose handlers run once per key.

    Its `dispatch()`, where the access checks are, does so only where it does the work.
    """

    def setup(self: View, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        view_class.setup(self, request, *args, **kwargs)
        _protect_handler(self, request, policy)

    def dispatch(self: View, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        call = partial(view_class.dispatch, self, request, *args, **kwargs)
        if _has_no_handler(self, request) and _works(view_class):
            is_async = iscoroutinefunction(call)
            return _run_handler(request, policy, call, is_async=is_async, joins=False)
        return call()

    names = {"setup": setup, "dispatch": dispatch, "__module__": view_class.__module__}
    protected: type[View] = type(view_class.__name__, (view_class,), names)
    return protected


class _RestFunction(RestView):
    """A handler below ``@api_view`` or ``@action``, or one of a decorated dispatch().

    Where Django itself has opened the transaction of ATOMIC_REQUESTS, a rollback that
    the framework asks for is passed on to it.
    """

    wants_rollback = False

    def _handled(self, error: Exception) -> Any:
        response = super()._handled(error)
        self.wants_rollback = connections[record_alias()].needs_rollback
        return response

    def hand_rollback_on(self) -> None:
        if self.wants_rollback and connections[record_alias()].in_atomic_block:
            transaction.set_rollback(True, using=record_alias())


def _django_request(request: Any) -> HttpRequest:
    django_request: HttpRequest = getattr(request, "_request", request)
    return django_request


def _request_in(args: tuple[Any, ...]) -> Any:
    """Return the request, which comes after `self` where a method is decorated."""
    for argument in args[:2]:
        if isinstance(argument, HttpRequest) or hasattr(argument, "parser_context"):
            return argument
    raise TypeError("A view decorated with @idempotent must be called with a request.")


def _dispatching_view(view: Any, args: tuple[Any, ...]) -> tuple[View | None, Any]:
    """Return the class-based view whose dispatch() was decorated, if it was, and that."""
    if getattr(view, "__name__", None) != "dispatch":
        return None, None
    if isinstance(args[0], View):
        return args[0], view
    while view is not None:
        bound = getattr(view, "func", None)
        if isinstance(owner := getattr(bound, "__self__", None), View):
            return owner, getattr(bound, "__func__", None)
        view = getattr(view, "__wrapped__", None)
    return None, None


def _comes_from_as_view(view: Any) -> bool:
    if not hasattr(view, "view_class"):
        return False
    if view.__code__.co_qualname != "View.as_view.<locals>.view":
        raise ImproperlyConfigured(
            "@idempotent must stand directly around as_view(), inside every other "
            f"decorator:\n\n    idempotent({view.view_class.__name__}.as_view())"
        )
    if not any(hasattr(view.view_class, name.lower()) for name in METHODS_WITH_KEYS):
        _refuse_obstacle(view.view_class)
    return True


def _refuse_obstacle(view_class: type, dispatch: Any = None) -> None:
    if (before := obstacle(view_class, dispatch)) is not None:
        works = cast("type", working_class(view_class, dispatch))
        raise ImproperlyConfigured(
            f"{view_class.__name__} works in {works.__name__}.dispatch(), and "
            f"{before.__name__}.dispatch() stands before it: around both, @idempotent "
            "would replay answers to users who may no longer see them. Write\n\n"
            f"{lines_for(view_class, works)}"
        )


def _refuse_misplacement(view: Any, policy: IdempotencyPolicy) -> None:
    name = getattr(view, "__name__", "view")
    if isinstance(view, type):
        raise ImproperlyConfigured(
            f"@idempotent can't decorate the class {name}. Write\n\n"
            '    @method_decorator(idempotent, name="post")\n'
            f"    class {name}(View):\n\nor, with REST framework,\n\n"
            f"    class {name}(IdempotencyMixin, APIView):"
        )
    if hasattr(view, "cls"):
        raise ImproperlyConfigured(
            f"@idempotent must stand below @api_view: above the REST framework view "
            f"{name} it would answer before authentication and permissions are checked. "
            "Write\n\n"
            '    @api_view(["POST"])\n    @idempotent\n'
            f"    def {name}(request):\n\nor use IdempotencyMixin."
        )
    refuse_misplacement(view)
    if (check := access_check_in([*wrappers_of(view)])) is not None:
        _, _, short = check.rpartition(".")
        shown = "login_required" if short == "user_passes_test" else f"{short}(…)"
        raise ImproperlyConfigured(
            f"@idempotent must stand below the access check of {name}: above it, stored "
            "answers would be replayed to users who may no longer see them. Write\n\n"
            f"    @{shown}\n    @idempotent\n    def {name}(request):"
        )
    if iscoroutinefunction(view):
        _require_lease(name, policy)


def _require_lease(name: str, policy: IdempotencyPolicy) -> None:
    if policy.lease is None:
        raise ImproperlyConfigured(
            f"@idempotent can't protect the async view {name}: it runs in a "
            "transaction, and Django has no async transactions. Write\n\n"
            f"    @idempotent\n    def {name}(request):\n\nor give it a lease:\n\n"
            "    @idempotent(lease=timedelta(minutes=1))\n"
            f"    async def {name}(request):"
        )


def _refuse_keep_errors(policy: IdempotencyPolicy) -> None:
    if policy.keep_errors:
        raise ImproperlyConfigured(
            "keep_errors=True needs REST framework: on a plain view Django turns the "
            "exception into an answer outside of @idempotent. Return the answer instead "
            "of raising:\n\n"
            "    return HttpResponse(status=404)"
        )
