"""A client, its user, and the one request that it repeats at each placement."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client

from .commits import db
from .urls import PLACEMENTS

__all__ = ["db"]

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


@pytest.fixture(params=[False, True], ids=["autocommit", "atomic_requests"])
def atomic_requests(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> bool:
    """Both ways in which a project may run its views."""
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", request.param)
    return bool(request.param)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "placement" in metafunc.fixturenames:
        wanted = getattr(metafunc.module, "applies_to", lambda placement: True)
        chosen = [each for each in PLACEMENTS if wanted(each)]
        metafunc.parametrize("placement", chosen, ids=[each.name for each in chosen])
