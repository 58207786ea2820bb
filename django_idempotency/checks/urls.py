from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from types import FunctionType
from typing import Any

from asgiref.sync import iscoroutinefunction
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import Atomic
from django.urls import URLPattern, URLResolver, get_resolver

from django_idempotency.http.boundary import METHODS_WITH_KEYS
from django_idempotency.http.dispatching import (
    lines_for,
    obstacle,
    uses_name,
    working_class,
)
from django_idempotency.http.ninja import is_operations_own, operations_behind
from django_idempotency.http.placements import (
    access_check_in,
    callables_between,
    class_of,
    decorator_of,
    dispatches,
    inwards,
    outside,
    protected_functions,
)
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.store.records import record_alias
from django_idempotency.webhooks.endpoints import Endpoint

from .durations import check_durations
from .webhooks import check_endpoint

CONDITION = "django.views.decorators.http.condition"

HARMLESS = {
    "contextlib",
    "django",
    "django_idempotency",
    "ninja",
    "ninja_extra",
    "rest_framework",
}
"""Packages whose decorators may stand between @idempotent and the view."""


def check_placements(
    app_configs: Collection[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Walk the URLconf for mistakes that could not be refused at import.

    `method_decorator` decorates anew at each request, and a decorator can't see what
    the view does inside.
    """
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = [message for view in _views(get_resolver()) for message in _check(view)]
    # Several patterns often lead to one view.
    return list({(message.id, message.msg): message for message in found}.values())


def endpoints_in_urls() -> list[Endpoint]:
    """Return the webhook endpoints that the URLconf leads to."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = (getattr(view, "webhook_endpoint", None) for view in _views(get_resolver()))
    return [endpoint for endpoint in found if endpoint is not None]


def _check(view: Callable[..., Any]) -> Iterator[CheckMessage]:
    for function in protected_functions(view):
        policy: IdempotencyPolicy = function.idempotency_policy  # type: ignore[attr-defined]
        name = _name_of(view, function)
        yield from _inside(function, name)
        yield from _working_dispatch(view, function, name)
        yield from _condition_above(view, function, name)
        yield from _keep_errors(view, function, policy, name)
        yield from check_durations(policy, name)
        if policy.lease is None:
            yield from _async_handler(function, name)
            yield from _durable_transaction(function, name)
            yield from _joined_transaction(view, function, name)
            yield from _outer_transaction(view, function, name)
        else:
            yield from _transaction_around_a_lease(view, function, name)
    if (endpoint := getattr(view, "webhook_endpoint", None)) is not None:
        yield from check_endpoint(endpoint)
    view_class = class_of(view)
    policy_of_class = getattr(view_class, "idempotency_policy", None)
    if isinstance(policy_of_class, IdempotencyPolicy):
        name = f"{view_class.__module__}.{view_class.__qualname__}"
        yield from check_durations(policy_of_class, name)


def _name_of(view: Callable[..., Any], function: FunctionType) -> str:
    """A handler may be inherited from a class that says nothing to the reader."""
    view_class = class_of(view)
    if view_class is None or function in inwards(view) or hasattr(view, "cls"):
        return f"{function.__module__}.{function.__qualname__}"
    return f"{view_class.__module__}.{view_class.__qualname__}.{function.__name__}"


def _views(resolver: URLResolver) -> Iterator[Callable[..., Any]]:
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLPattern):
            yield pattern.callback
            yield from (each.view_func for each in operations_behind(pattern.callback))
        else:
            yield from _views(pattern)


def _async_handler(function: FunctionType, name: str) -> Iterator[CheckMessage]:
    if any(iscoroutinefunction(each) for each in inwards(function)):
        yield Error(
            f"@idempotent can't protect the async handler {name}: it runs in a "
            "transaction, and Django has no async transactions.",
            hint=f"    def {function.__name__}(self, request):  # without async",
            id="django_idempotency.E020",
        )


def _inside(function: FunctionType, name: str) -> Iterator[CheckMessage]:
    inner = list(inwards(function))[1:]
    if (check := access_check_in([*inner, *callables_between(function)])) is not None:
        yield Error(
            f"{check} checks access to {name} and must stand above @idempotent: a stored "
            "answer would be replayed to users who may no longer see it.",
            hint=f"    @login_required\n    @idempotent\n    def {function.__name__}"
            "(request):",
            id="django_idempotency.E021",
        )
        return
    for decorator in _unknown(callables_between(function)):
        yield Warning(
            f"{decorator} stands between @idempotent and {name}: if it checks access, a "
            "stored answer would be replayed to users who may no longer see it; and "
            "whatever it does is not done again for a repeat.",
            hint="Unless it belongs to the work that is done once, put it above:\n\n"
            f"    @{decorator.rpartition('.')[2]}\n    @idempotent\n"
            f"    def {function.__name__}(request):\n\n"
            "If all is right as it is: SILENCED_SYSTEM_CHECKS = "
            '["django_idempotency.W029"]',
            id="django_idempotency.W029",
        )


def _unknown(decorators: Collection[Any]) -> list[str]:
    names = [decorator_of(each) for each in decorators]
    return [name for name in names if name.partition(".")[0] not in HARMLESS]


def _working_dispatch(
    view: Callable[..., Any], function: FunctionType, name: str
) -> Iterator[CheckMessage]:
    """Where `dispatch()` works itself, no handler is called that could be protected."""
    view_class = class_of(view)
    if view_class is None or (works := working_class(view_class)) is None:
        return
    handler = function.__name__
    is_dispatch = any(function in inwards(each) for each in dispatches(view_class))
    if is_dispatch:
        dispatch = getattr(function, "__wrapped__", None)
        if (before := obstacle(view_class, dispatch)) is not None:
            yield Error(
                f"{view_class.__module__}.{view_class.__qualname__} works in "
                f"{works.__name__}.dispatch(), and {before.__name__}.dispatch() stands "
                "before it: around both, @idempotent refuses each request, since a "
                "replay would pass over it.",
                hint=lines_for(view_class, works),
                id="django_idempotency.E028",
            )
            return
    if is_dispatch or function in inwards(view):
        # Handlers are what is protected wherever there are any.
        names = [method.lower() for method in sorted(METHODS_WITH_KEYS)]
        handler = next((each for each in names if hasattr(view_class, each)), "")
        if not handler or uses_name(vars(works)["dispatch"], handler):
            return
        name = f"{view_class.__module__}.{view_class.__qualname__}.{handler}"
    yield Warning(
        f"{works.__name__}.dispatch() doesn't seem to call {name}, which is all that "
        "is protected.",
        hint="Let it call super().dispatch(), or protect it instead, where no handler is "
        'in the way:\n\n    @method_decorator(idempotent, name="dispatch")\n'
        f"    class {view_class.__name__}(…):  # without {handler}()",
        id="django_idempotency.W034",
    )


def _condition_above(
    view: Callable[..., Any], function: FunctionType, name: str
) -> Iterator[CheckMessage]:
    """`@condition`, `@etag` and `@last_modified` are one decorator."""
    if any(decorator_of(each) == CONDITION for each in outside(view, function)):
        yield Warning(
            f"@condition should not stand above @idempotent in {name}: after the first "
            "call the object has changed, so that a repeat gets 412 instead of the "
            "answer.",
            hint="    @idempotent\n    @condition(…)\n"
            f"    def {function.__name__}(request):",
            id="django_idempotency.W035",
        )


def _durable_transaction(function: FunctionType, name: str) -> Iterator[CheckMessage]:
    if any(
        isinstance(each, Atomic) and each.durable  # type: ignore[attr-defined]
        for each in inwards(function)
    ):
        yield Error(
            f"{name} must not open atomic(durable=True): it runs inside @idempotent's "
            "transaction, so Django refuses that at each request.",
            hint=f"    @transaction.atomic  # not durable\n    def {function.__name__}"
            "(request):",
            id="django_idempotency.E022",
        )


def _keep_errors(
    view: Callable[..., Any],
    function: FunctionType,
    policy: IdempotencyPolicy,
    name: str,
) -> Iterator[CheckMessage]:
    is_ninjas = is_operations_own(function)
    if policy.keep_errors and not (hasattr(view, "cls") or is_ninjas):
        yield Error(
            f"{name} must not set keep_errors=True, which needs REST framework.",
            hint="Return the answer instead of raising:\n\n"
            "    return HttpResponse(status=404)",
            id="django_idempotency.E023",
        )


def _joined_transaction(
    view: Callable[..., Any], function: FunctionType, name: str
) -> Iterator[CheckMessage]:
    if _has_atomic_requests(view):
        yield Warning(
            f"ATOMIC_REQUESTS should not open a transaction around {name}, which is "
            "protected by @idempotent: copies wait with that transaction open, and "
            "under REPEATABLE READ they get 409 instead of the answer.",
            hint=_way_out(view, function, record_alias()),
            id="django_idempotency.W025",
        )


def _has_atomic_requests(view: Callable[..., Any]) -> bool:
    """Django asks only the outermost function whether to open ATOMIC_REQUESTS."""
    alias = record_alias()
    if not connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        return False
    return alias not in getattr(view, "_non_atomic_requests", ())


def _transaction_around_a_lease(
    view: Callable[..., Any], function: FunctionType, name: str
) -> Iterator[CheckMessage]:
    """The claim of a lease is committed at once; a transaction around it delays that."""
    is_decorated = any(isinstance(each, Atomic) for each in outside(view, function))
    if is_decorated or _has_atomic_requests(view):
        around = "@transaction.atomic" if is_decorated else "ATOMIC_REQUESTS"
        way_out = f"    @idempotent(lease=…)\n    def {function.__name__}(request):"
        yield Error(
            f"{around} must not open a transaction around {name}, whose lease has to be "
            "committed before the view runs: each request is refused.",
            hint=way_out if is_decorated else _way_out(view, function, record_alias()),
            id="django_idempotency.E027",
        )


def _way_out(view: Callable[..., Any], function: FunctionType, alias: str) -> str:
    """Return the lines that switch ATOMIC_REQUESTS off for this view alone."""
    if is_operations_own(function):
        return (
            "Ninja leaves no way to switch it off for one view. Let the others open "
            "their transactions themselves:\n\n"
            f'    DATABASES = {{{alias!r}: {{…, "ATOMIC_REQUESTS": False}}}}'
        )
    view_class = class_of(view)
    if view_class is None or view_class.__qualname__ == "WrappedAPIView":  # @api_view
        using = "" if alias == DEFAULT_DB_ALIAS else f"(using={alias!r})"
        return (
            "Switch it off above every other decorator; @idempotent opens a "
            "transaction itself:\n\n"
            f"    @transaction.non_atomic_requests{using}\n"
            f"    def {function.__name__}(request):"
        )
    if hasattr(view, "cls"):
        bases = ", ".join(base.__name__ for base in view_class.__bases__)
        return (
            "Let the mixin protect the view instead of @idempotent; "
            "get_idempotency_policy() chooses what is protected:\n\n"
            f"    class {view_class.__name__}(IdempotencyMixin, {bases}):"
        )
    if function.__name__ == "dispatch":
        return (
            "Switch it off where the class is seen from outside; @idempotent opens a "
            "transaction itself:\n\n"
            '    @method_decorator(transaction.non_atomic_requests, name="dispatch")\n'
            f"    class {view_class.__name__}(…):"
        )
    return (
        "Decorate dispatch() instead of the handler; the access checks in it still "
        "come first:\n\n"
        '    @method_decorator(idempotent, name="dispatch")\n'
        f"    class {view_class.__name__}(…):"
    )


def _outer_transaction(
    view: Callable[..., Any], function: FunctionType, name: str
) -> Iterator[CheckMessage]:
    """Here the outer transaction decides when the answer and the writes commit."""
    if any(isinstance(each, Atomic) for each in outside(view, function)):
        yield Warning(
            f"@transaction.atomic should not stand above @idempotent in {name}: copies "
            "wait with that transaction open, and nothing is kept before it commits.",
            hint="@idempotent opens a transaction itself. Write\n\n"
            f"    @idempotent\n    def {function.__name__}(request):",
            id="django_idempotency.W026",
        )
