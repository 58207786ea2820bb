"""Entry: which requests are protected, and the transaction around the others.

Every request passes through here once, whether it comes by the decorator, the mixin or
the admin. If it is already protected further out, it is let through.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from django.db import connections, transaction
from django.http import HttpRequest

from django_idempotency.engine.idempotency import Idempotency, set_current
from django_idempotency.engine.steps import Steps
from django_idempotency.store.records import record_alias

from .notes import notes_of
from .pages import keep_from_caches

R = TypeVar("R")

METHODS_THAT_REQUIRE_KEYS = frozenset({"POST", "PATCH"})
METHODS_WITH_KEYS = METHODS_THAT_REQUIRE_KEYS | {"PUT", "DELETE"}


class NonAtomicRequests:
    """The databases for which Django must not open ATOMIC_REQUESTS around a view.

    Django asks the outermost view function for its ``_non_atomic_requests``. The
    record's database is always one of them, since we open that transaction ourselves;
    its alias isn't known at import. Those that the view has named stay.
    """

    def __init__(self, named: Collection[str]) -> None:
        self._named = set(named)

    @classmethod
    def of(cls, view: Any) -> NonAtomicRequests:
        """Return the view's own, made by an inner decorator, or a new one."""
        named = getattr(view, "_non_atomic_requests", ())
        return named if isinstance(named, cls) else cls(named)

    def __contains__(self, alias: object) -> bool:
        return alias in self._named or alias == record_alias()

    def add(self, alias: str) -> None:
        """Called by a ``@transaction.non_atomic_requests`` above our decorator."""
        self._named.add(alias)

    def as_django_would(self) -> AbstractContextManager[Any]:
        """Return the transaction that ATOMIC_REQUESTS would have opened, if any."""
        alias = record_alias()
        wanted = connections[alias].settings_dict["ATOMIC_REQUESTS"]
        if wanted and alias not in self._named:
            return transaction.atomic(using=alias)
        return nullcontext()


def enter(
    request: HttpRequest,
    view: Callable[[], R],
    protected_view: Callable[[], R],
    non_atomic: NonAtomicRequests | None,
) -> R:
    """Call `protected_view`, or `view` if there is nothing to protect.

    A safe method runs as it would without us: in the transaction that Django would have
    opened. ``non_atomic=None`` says that it would open none, as for async views.
    """
    if is_protected(request):
        return view()
    show(request, None)
    return keep_from_caches(request, _call(request, view, protected_view, non_atomic))


def _call(
    request: HttpRequest,
    view: Callable[[], R],
    protected_view: Callable[[], R],
    non_atomic: NonAtomicRequests | None,
) -> R:
    if request.method in METHODS_WITH_KEYS:
        return protected_view()
    if non_atomic is None:
        return view()
    with non_atomic.as_django_would():
        return view()


def is_protected(request: HttpRequest) -> bool:
    """Whether an outer protected view is running on this request."""
    return notes_of(request).is_running


def show(request: HttpRequest, steps: Steps | None) -> Idempotency:
    """Give the view its operation; without one, `key` is ``None`` and steps just run."""
    operation = Idempotency(steps)
    request.idempotency = operation  # type: ignore[attr-defined]
    return operation


class Running:
    """Give the view its operation, and tell inner protected views that there is one."""

    def __init__(self, request: HttpRequest, steps: Steps) -> None:
        self._notes = notes_of(request)
        set_current(show(request, steps))

    def __enter__(self) -> None:
        self._notes.is_running = True

    def __exit__(self, *raised: object) -> None:
        self._notes.is_running = False
