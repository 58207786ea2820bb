"""The decorator of operations, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import isasyncgenfunction, isgeneratorfunction, unwrap
from typing import Any, TypeVar, Unpack, overload

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from ninja.decorators import decorate_view
from ninja.operation import Operation
from ninja.signature.utils import get_typed_signature
from ninja.utils import contribute_operation_callback

from django_idempotency.http.boundary import is_protected
from django_idempotency.http.ninja import (
    CONTRIBUTIONS,
    refuse_misplacement,
    right_lines,
)
from django_idempotency.http.placements import (
    access_check_in,
    is_marked,
    wrappers_of,
)
from django_idempotency.http.protection import aprotect, protect
from django_idempotency.policies import IdempotencyPolicy, PolicyOptions

from .calls import Call, entrance, running
from .schema import describe

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
    """Run an operation of django-ninja once per key; a repeat gets the first answer.

    It stands below ``@api.post``, a router's or a controller's route, and below whatever
    checks access. Authentication, throttles and the parsing of parameters come first,
    for first calls and for repeats. What the operation returns is made into a response
    inside of its transaction, so that one which fails validation is rolled back. With a
    `lease` it runs outside of any transaction, and may be async.

    The options are those of `IdempotencyPolicy`, or one ready-made `policy`.

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
    _refuse(view, policy)

    @wraps(view)
    def protected_view(*args: Any, **kwargs: Any) -> Any:
        call = _call_of(protected, args)
        if call is None:
            return view(*args, **kwargs)
        return protect(call.request, policy, call.run_once(view, args, kwargs))

    @wraps(view)
    async def protected_async_view(*args: Any, **kwargs: Any) -> Any:
        call = _call_of(protected, args)
        if call is None:
            return await view(*args, **kwargs)
        run = call.run_once(view, args, kwargs).arun
        return await aprotect(call.request, policy, run)

    protected: Any = (
        protected_async_view if iscoroutinefunction(view) else protected_view
    )
    # Names in annotations mean what they mean in the view's module, not in this one.
    protected.__signature__ = get_typed_signature(view)
    protected.idempotency_policy = policy
    # Ours comes first, so that it is the innermost around ninja's own run().
    others = getattr(view, CONTRIBUTIONS, ())
    setattr(protected, CONTRIBUTIONS, [])
    contribute_operation_callback(protected, _refuse_operation)
    decorate_view(partial(entrance, protected))(protected)
    contribute_operation_callback(protected, partial(describe, policy=policy))
    getattr(protected, CONTRIBUTIONS).extend(others)
    return protected


def _call_of(protected: Any, args: tuple[Any, ...]) -> Call | None:
    """Return what ninja runs just now; ``None``: the view is to be called as it is.

    Raises:
        ImproperlyConfigured: ninja hasn't called it, and nothing protects it.
    """
    call = running.get(None)
    if call is not None and (not call.runs_once or is_protected(call.request)):
        return None
    # Or what a decorator calls before would take the key of the operation below it.
    if call is not None and call.protected is protected:
        return call
    if any(isinstance(each, HttpRequest) and is_protected(each) for each in args[:2]):
        return None
    raise ImproperlyConfigured(
        f"{protected.__qualname__} is protected as an operation of django-ninja, and was "
        "called by something else. Nothing was done. Put what both do into a function of "
        "its own, without @idempotent, or register it:\n\n"
        f"{right_lines(protected.__name__)}"
    )


def _refuse(view: Any, policy: IdempotencyPolicy) -> None:
    name = getattr(view, "__name__", "view")
    if isinstance(view, type):
        raise ImproperlyConfigured(
            f"@idempotent can't decorate the class {name}. Write it on each operation "
            "that is to be protected:\n\n"
            '    @route.post("/…")\n    @idempotent\n    def pay(self, …):'
        )
    refuse_misplacement(view)
    inside = [view, *wrappers_of(view)]
    if any(map(is_marked, inside)):
        raise ImproperlyConfigured(
            f"@idempotent stands twice around {name}. Write\n\n{right_lines(name)}"
        )
    if (check := access_check_in(inside)) is not None:
        raise ImproperlyConfigured(
            f"{check} checks access to {name} and must not stand below @idempotent: "
            "stored answers would be replayed to users who may no longer see them. "
            "Write\n\n"
            '    @api.post("/…", auth=django_auth)\n    @idempotent\n'
            f"    def {name}(request, …):"
        )
    function = unwrap(view)
    if isgeneratorfunction(function) or isasyncgenfunction(function):
        raise ImproperlyConfigured(
            f"@idempotent can't protect the generator {name}: nothing of it has run when "
            "its answer begins. Do the work in a function, and return the generator of "
            f"what is streamed:\n\n    @idempotent\n    def {name}(request, …):\n"
            "        order = …\n        return lines_of(order)"
        )
    if iscoroutinefunction(view) and policy.lease is None:
        raise ImproperlyConfigured(
            f"@idempotent can't protect the async operation {name}: it runs in a "
            "transaction, and Django has no async transactions. Write\n\n"
            f"    @idempotent\n    def {name}(request, …):\n\nor give it a lease:\n\n"
            "    @idempotent(lease=timedelta(minutes=1))\n"
            f"    async def {name}(request, …):"
        )


def _refuse_operation(operation: Operation) -> None:
    if iscoroutinefunction(operation.run) and getattr(operation, "stream_format", None):
        name = operation.view_func.__name__
        raise ImproperlyConfigured(
            f"@idempotent can't protect the async operation {name}, which streams: ninja "
            "begins it only with the answer. Return a response of your own:\n\n"
            "        return StreamingHttpResponse(lines_of(order))"
        )
