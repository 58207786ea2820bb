"""One place where protection may stand, as data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Joins = Literal["never", "atomic_requests", "always"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    name: str
    """Its path in the URLconf, and its id in the test report."""
    view: Callable[..., Any]
    refuses_anonymous: int | None = None
    """Status for whoever isn't signed in; ``None``: everybody may."""
    refuses_unpermitted: int | None = None
    """Status for a signed-in user without ``testapp.add_order``."""
    joins: Joins = "never"
    """When somebody else's transaction is open around the protection."""

    @property
    def path(self) -> str:
        return f"/{self.name}/"

    def is_joining(self, *, atomic_requests: bool) -> bool:
        return self.joins == "always" or (
            self.joins == "atomic_requests" and atomic_requests
        )
