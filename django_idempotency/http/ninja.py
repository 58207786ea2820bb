"""What has to be known of django-ninja where it isn't imported.

Its operations are found by what they are made of; only ``contrib.ninja`` imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from django.core.exceptions import ImproperlyConfigured

from .placements import decorator_of, wrappers_of

MADE_HERE = "django_idempotency.contrib.ninja."

CONTRIBUTIONS = "_ninja_contribute_to_operation"
"""Where ninja finds what a decorator does with the operation, when it is registered."""
REGISTERED = (
    "_ninja_operation",
    "OPERATION_ENDPOINT_KEY",
    "__route_function__",  # by django-ninja-extra before 0.31
)
"""What a function has that an ``@api.post``, or a controller's route, knows already."""


def right_lines(name: str) -> str:
    return (
        "    from django_idempotency.contrib.ninja import idempotent\n\n"
        '    @api.post("/…")\n    @idempotent\n'
        f"    def {name}(request, …):"
    )


def refuse_misplacement(view: Any) -> None:
    """Refuse what would stand outside of an operation's own checks, or outside of it all.

    Raises:
        ImproperlyConfigured: with the right lines.
    """
    name = getattr(view, "__name__", "view")
    innermost = [view, *(each.__wrapped__ for each in wrappers_of(view))][-1]
    for each in (view, innermost):
        operation: Any = getattr(each, "__self__", None)
        if hasattr(operation, "auth_callbacks") and hasattr(operation, "view_func"):
            raise ImproperlyConfigured(
                "@idempotent can't be given to decorate_view(), or to add_decorator(): "
                "there it would answer before ninja has checked who is calling. Write\n\n"
                f"{right_lines(operation.view_func.__name__)}"
            )
    if any(hasattr(view, mark) for mark in REGISTERED):
        raise ImproperlyConfigured(
            f"@idempotent must stand below @api.post: above it, and in add_decorator(), "
            f"it comes too late to protect {name}, which ninja knows already. Write\n\n"
            f"{right_lines(name)}"
        )


def refuse_operation(operation: Any) -> NoReturn:
    """Called by ninja when it registers what the decorator of plain views has made."""
    raise ImproperlyConfigured(
        "On an operation of django-ninja, @idempotent has to be the one that sees the "
        "answer as ninja makes it. Write\n\n"
        f"{right_lines(operation.view_func.__name__)}"
    )


def operations_behind(view: Callable[..., Any]) -> Iterator[Any]:
    """Yield ninja's operations that a function in the URLconf leads to."""
    for cell in getattr(view, "__closure__", None) or ():
        try:
            operations = getattr(cell.cell_contents, "operations", None)
        except ValueError:  # not filled yet
            continue
        if isinstance(operations, list):
            yield from (each for each in operations if hasattr(each, "view_func"))


def is_operations_own(function: Any) -> bool:
    """Whether the decorator for ninja has made it."""
    return decorator_of(function).startswith(MADE_HERE)
