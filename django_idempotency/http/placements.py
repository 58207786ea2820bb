"""Where in a view @idempotent stands, and what stands around it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from types import FunctionType
from typing import Any

from django.db.transaction import Atomic

from django_idempotency.policies import IdempotencyPolicy

from .boundary import METHODS_WITH_KEYS

ACCESS_CHECKS = {
    "allauth.account.decorators",
    "django.contrib.admin.views.decorators",
    "django.contrib.auth.decorators",
    "guardian.decorators",
    "rules.contrib.views",
}
"""Modules whose decorators check access."""

OURS = "django_idempotency.decorators."


def class_of(view: Callable[..., Any]) -> Any:
    """The class behind an `as_view()` function: REST framework's, or Django's."""
    return getattr(view, "cls", None) or getattr(view, "view_class", None)


def protected_functions(view: Callable[..., Any]) -> list[FunctionType]:
    """Return what @idempotent has wrapped, wherever it stands in this view.

    Decorators that use `functools.wraps` copy our mark to the outside; the innermost
    function that has it is the protected one.
    """
    marked = []
    for entrance in (*_always_entered(view), *_handlers(view)):
        chain = [each for each in inwards(entrance) if is_marked(each)]
        if chain and chain[-1] not in marked:
            marked.append(chain[-1])
    return marked


def outside(view: Callable[..., Any], function: FunctionType) -> list[Any]:
    """Return the functions around one of the view's protected functions."""
    inside = {id(each) for each in inwards(function)}
    _, beside = _beside_ours(function)
    chains = [beside, *(list(inwards(each)) for each in _always_entered(view))]
    chains += [
        chain
        for handler in _handlers(view)
        if function in (chain := list(inwards(handler)))
    ]
    return [
        each
        for chain in chains
        for each in chain
        if id(each) not in inside or each in beside
    ]


def access_check_in(functions: Collection[Any]) -> str | None:
    """Return the name of a decorator among these that checks access.

    It is known by its module, or by the `login_url` that Django's leave on the wrapper
    and that further wrappers copy.
    """
    names = [decorator_of(each) for each in functions if hasattr(each, "login_url")]
    known = [
        name
        for each in functions
        if (name := decorator_of(each)).rpartition(".")[0] in ACCESS_CHECKS
    ]
    return next(iter(known or names), None)


def callables_between(function: FunctionType) -> list[Any]:
    """Return the decorators between @idempotent and the view, or what they have made."""
    inside, _ = _beside_ours(function)
    for wrapper in wrappers_of(getattr(function, "__wrapped__", None)):
        inside += _of_method_decorator(wrapper)[::-1] or [wrapper]
    return inside


def decorator_of(wrapper: Any) -> str:
    """Return the dotted name of the decorator that has made this function.

    `functools.wraps` gives a wrapper the view's name; its code still has its own.
    """
    while isinstance(wrapper, partial):
        wrapper = wrapper.func
    code = getattr(wrapper, "__code__", None)
    if code is None:  # an object that can be called
        return f"{type(wrapper).__module__}.{type(wrapper).__qualname__}"
    module = wrapper.__globals__.get("__name__", "")
    return f"{module}.{code.co_qualname.partition('.<locals>')[0]}"


def wrappers_of(view: Any) -> Iterator[Any]:
    """Yield what decorators with `functools.wraps` have made of a view; not itself."""
    while (inner := getattr(view, "__wrapped__", None)) is not None:
        yield view
        view = inner


def _beside_ours(function: FunctionType) -> tuple[list[Any], list[Any]]:
    """Return what one `method_decorator` applies below @idempotent, and above it."""
    decorators = _of_method_decorator(function)
    ours = [decorator_of(each).startswith(OURS) for each in decorators]
    if True not in ours:
        return [], []
    # In the order in which they are applied: what comes before ours is inside.
    place = ours.index(True)
    return decorators[:place][::-1], decorators[place + 1 :]


def _of_method_decorator(wrapper: Any) -> list[Any]:
    """Return the decorators that Django's `method_decorator` applies at each request."""
    names = getattr(getattr(wrapper, "__code__", None), "co_freevars", ())
    cells = dict(zip(names, getattr(wrapper, "__closure__", None) or (), strict=False))
    cell = cells.get("decorators")
    return [] if cell is None else [*cell.cell_contents]


def _always_entered(view: Callable[..., Any]) -> list[Any]:
    view_class = class_of(view)
    return [view] if view_class is None else [view, *dispatches(view_class)]


def dispatches(view_class: type) -> list[Any]:
    """Return each `dispatch()` of a class, from the outside in."""
    classes = view_class.__mro__
    return [vars(each)["dispatch"] for each in classes if "dispatch" in vars(each)]


def _handlers(view: Callable[..., Any]) -> list[Any]:
    actions: dict[str, str] = getattr(view, "actions", None) or {}
    names = {*(method.lower() for method in METHODS_WITH_KEYS), *actions.values()}
    return [getattr(class_of(view), name, None) for name in sorted(names)]


def is_marked(function: Any) -> bool:
    """Whether @idempotent has made it, or a decorator around that copied our mark."""
    return isinstance(
        getattr(function, "idempotency_policy", None), IdempotencyPolicy
    ) and isinstance(function, FunctionType)


def inwards(function: Any) -> Iterator[Any]:
    """Yield a function and what it wraps, through `__wrapped__` and closures."""
    queue, seen = [function], set()
    while queue:
        each = queue.pop(0)
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        queue.append(getattr(each, "__wrapped__", None))
        for cell in getattr(each, "__closure__", None) or ():
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            # Not the list of `method_decorator`: it holds what stands above us as well.
            if isinstance(content, FunctionType | Atomic):
                queue.append(content)
