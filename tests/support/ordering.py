"""The view that most tests protect, its customers, and what they get."""

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
FORM = "application/x-www-form-urlencoded"
GUEST_KEY = "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6"
ONCE = ["201", "201 replayed"]
"""The words of a request and of its copy."""


def place_order(request: HttpRequest) -> HttpResponse:
    """Place an order, whatever the request says; decorated where a test needs it."""
    order = Order.objects.create()
    return JsonResponse({"order": order.pk}, status=201)


def signed_in_client(username: str = "ann", **options: Any) -> Client:
    client = Client(**options)
    client.force_login(User.objects.get_or_create(username=username)[0])
    return client


def forgiving_client(**options: Any) -> Client:
    """A client that gets 500 where a server would answer it."""
    return signed_in_client(raise_request_exception=False, **options)


def send(
    client: Client,
    url: str = "/orders/",
    body: str | bytes = b"{}",
    content_type: str = JSON,
    *,
    key: str | None = "K",
    method: str = "POST",
    **headers: str,
) -> ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["Idempotency-Key"] = key
    return client.generic(method, url, body, content_type, headers=named)


def words(client: Client, *request: Any, times: int = 2, **options: Any) -> list[str]:
    """Send a request so often; what came back, each in a word."""
    return [word(send(client, *request, **options)) for _ in range(times)]


def word(response: Any) -> str:
    """``201``, ``201 replayed`` or ``409 in-flight``."""
    said = "replayed" if is_replay(response) else problem_code(response)
    return f"{response.status_code} {said or ''}".rstrip()


def orders() -> int:
    """How often a view that orders has run and was not rolled back."""
    return Order.objects.count()


def is_replay(response: Any) -> bool:
    return bool(response.headers.get("Idempotency-Replayed") == "true")


def problem_code(response: Any) -> str | None:
    """The code of the problem that was answered, if it is one."""
    if response.headers.get("Content-Type") != "application/problem+json":
        return None
    code: str = json.loads(response.content)["code"]
    return code
