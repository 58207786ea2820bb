"""Where in a view @idempotent stands: for checks and schemas, never for a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from django.db.transaction import Atomic

from django_idempotency.policies import IdempotencyPolicy

from .boundary import METHODS_WITH_KEYS


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
        chain = [each for each in inwards(entrance) if _is_marked(each)]
        if chain and chain[-1] not in marked:
            marked.append(chain[-1])
    return marked


def outside(view: Callable[..., Any], function: FunctionType) -> list[Any]:
    """Return the functions around one of the view's protected functions."""
    inside = {id(each) for each in inwards(function)}
    chains = [list(inwards(entrance)) for entrance in _always_entered(view)]
    chains += [
        chain
        for handler in _handlers(view)
        if function in (chain := list(inwards(handler)))
    ]
    return [each for chain in chains for each in chain if id(each) not in inside]


def _always_entered(view: Callable[..., Any]) -> list[Any]:
    view_class = class_of(view)
    return [view] if view_class is None else [view, view_class.dispatch]


def _handlers(view: Callable[..., Any]) -> list[Any]:
    actions: dict[str, str] = getattr(view, "actions", None) or {}
    names = {*(method.lower() for method in METHODS_WITH_KEYS), *actions.values()}
    return [getattr(class_of(view), name, None) for name in sorted(names)]


def _is_marked(function: Any) -> bool:
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
            if isinstance(content, FunctionType | Atomic):
                queue.append(content)
