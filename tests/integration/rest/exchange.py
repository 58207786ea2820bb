"""Sending a request with a key, and what there is to see in its answer."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.integration.placements.facts import orders, states

__all__ = ["KEY", "is_replay", "orders", "send", "signed_in", "states", "user"]

KEY = "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"
"""Unguessable, so that a view without access checks takes it from a guest."""


def user(username: str = "ada") -> User:
    return User.objects.get_or_create(username=username)[0]


def signed_in(username: str = "ada") -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_login(user(username))
    return client


def send(
    client: APIClient,
    path: str,
    data: Any = None,
    *,
    method: str = "post",
    key: str | None = KEY,
    format: str | None = "json",
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> Any:
    sent = dict(headers or {})
    if key is not None:
        sent["Idempotency-Key"] = key
    call = getattr(client, method)
    return call(path, data, format=format, headers=sent, **extra)


def is_replay(response: Any) -> bool:
    return bool(response.headers.get("Idempotency-Replayed") == "true")
