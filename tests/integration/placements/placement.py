"""One place where protection may stand, as data, and the work that each protects.

The work is steered by the payload. It writes first and then answers or raises: whatever
is left of the row afterwards says what the protection did with the view's writes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from tests.testapp.models import Order

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


def opened(name: str, view: Callable[..., Any], joins: Joins = "never") -> Placement:
    return Placement(name=name, view=view, joins=joins)


def members(name: str, view: Callable[..., Any], joins: Joins = "never") -> Placement:
    """For whoever is signed in."""
    return Placement(name=name, view=view, refuses_anonymous=302, joins=joins)


def permitted(
    name: str,
    view: Callable[..., Any],
    joins: Joins = "never",
    *,
    anonymous: int = 403,
    unpermitted: int = 403,
) -> Placement:
    """For whoever has ``testapp.add_order``."""
    return Placement(
        name=name,
        view=view,
        refuses_anonymous=anonymous,
        refuses_unpermitted=unpermitted,
        joins=joins,
    )


class OutOfPaper(Exception):
    """A crash: nobody expects it, nobody answers for it."""


ERRORS: dict[int, type[Exception]] = {404: Http404, 500: OutOfPaper}


def place_order(wish: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Write a row, then do as told: ``raises`` or ``returns`` a status."""
    order = Order.objects.create(amount=wish.get("amount", 0))
    follow(wish)
    return {"order": order.pk, "note": wish.get("note", "")}, wish.get("returns", 201)


def follow(wish: dict[str, Any]) -> None:
    if "raises" in wish:
        raise ERRORS[wish["raises"]]


def order(request: HttpRequest) -> HttpResponse:
    content, status = place_order(json.loads(request.body or b"{}"))
    return JsonResponse(content, status=status)
