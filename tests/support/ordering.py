"""The view that most tests protect, and its customers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client

from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

JSON = "application/json"
GUEST_KEY = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6"


def place_order(request: HttpRequest) -> HttpResponse:
    """Place an order, whatever the request says; decorated where a test needs it."""
    order = Order.objects.create()
    return JsonResponse({"order": order.pk}, status=201)


def signed_in_client(username: str = "ann", **options: Any) -> Client:
    client = Client(**options)
    client.force_login(User.objects.get_or_create(username=username)[0])
    return client


def orders() -> int:
    """How often a view that orders has run and was not rolled back."""
    return Order.objects.count()


def is_replay(response: ClientResponse) -> bool:
    return response.headers.get("Idempotency-Replayed") == "true"


def problem_code(response: ClientResponse) -> str | None:
    """The code of the problem that was answered, if it is one."""
    if response.headers.get("Content-Type") != "application/problem+json":
        return None
    code: str = json.loads(response.content)["code"]
    return code
