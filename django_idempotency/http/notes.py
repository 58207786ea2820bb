"""What the package notes on a request, in one private object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest


@dataclass(slots=True)
class Notes:
    """The notes on one request."""

    is_running: bool = False
    """Whether an outer protected view is running on it."""
    body_copy: Any = None
    """Where the body can be read again, if something may read it from the stream."""
    form: Any = None
    """Fields and digests of files, if a form in parts was read for them."""
    view_request: Any = None
    """The request as the view gets it, if that is a framework's wrapper."""
    non_atomic: Any = None
    """The databases without ATOMIC_REQUESTS for this view, if that is known."""
    is_refused: bool = False
    """Whether the admin shows a form again that was sent before with other content."""
    asks: bool = False
    """Whether it only asks what became of the request that it looks like."""
    known_as: Callable[[HttpRequest], str | None] | None = None
    """Names a caller whom a framework knows by itself, though no user is signed in."""
    cache_control: dict[str, bool] = field(default_factory=dict)
    """What a page says to caches because there are keys in it."""


def notes_of(request: HttpRequest) -> Notes:
    """Return the notes on a request; the first call makes them."""
    notes: Notes | None = getattr(request, "_idempotency", None)
    if notes is None:
        notes = Notes()
        request._idempotency = notes  # type: ignore[attr-defined]
    return notes
