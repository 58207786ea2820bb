"""A client, its user, and the one request that it repeats."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import Permission, User
from django.test import Client

KEY = "order-1"
UNGUESSABLE = "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"


@dataclass(frozen=True)
class Customer:
    """Posts JSON; a crash of the view is an answer, as it is for a real client."""

    client: Client
    user: User = field(default_factory=User)

    def post(self, path: str, key: str | None = KEY, /, **wish: Any) -> Any:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = json.dumps({"amount": 1, **wish})
        return self.client.post(
            path, body, content_type="application/json", headers=headers
        )


def add_order() -> Permission:
    return Permission.objects.get(
        codename="add_order", content_type__app_label="testapp"
    )


def guest() -> Customer:
    return Customer(Client(raise_request_exception=False))


def customer(username: str = "ada", *, permitted: bool = True) -> Customer:
    """A signed-in customer, by default one who may do everything here."""
    user = User.objects.create_user(username)
    if permitted:
        user.user_permissions.add(add_order())
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return Customer(client, user)
