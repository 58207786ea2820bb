"""The work that every placement protects, steered by the payload.

It writes first and then answers or raises: whatever is left of the row afterwards says
what the protection did with the view's writes.
"""

from __future__ import annotations

import json
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse

from tests.testapp.models import Order


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
