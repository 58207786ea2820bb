"""The function that runs once, and its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from django_idempotency.core.decisions import Verdict
from django_idempotency.core.operations import StoredAnswer

from .steps import Steps

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """What the work returned, and what is to become of it."""

    value: T
    commits: bool
    """Whether its writes are committed; otherwise they are rolled back."""
    answer: StoredAnswer | None = None
    """What a repeat gets; ``None`` releases the key, so that a repeat runs anew.

    With ``commits=False`` it is kept in a transaction of its own, after the rollback.
    """
    is_final: bool = False
    """Whether the caller may take the value for the end of the operation."""
    claims_success: bool = False
    """Whether the caller will take the value for success."""
    failure: str | None = None
    """Noted on the released record: an exception's class, or nothing (``""``).

    ``None`` leaves no trace.
    """


@dataclass(frozen=True, slots=True)
class Ran(Generic[T]):
    """The work has run; this is its value."""

    value: T
    is_final: bool = False
    """Whether this has ended the operation: a retry under its key changes nothing."""
    is_kept: bool = False
    """Whether a repeat gets it."""


Result = Ran[T] | Verdict


Work = Callable[[Steps], Outcome[T]]
