"""What the handler finds in ``request.idempotency``, and what is stored of it."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import KEY, is_replay, orders, send, signed_in, user

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

OPTIONAL = IdempotencyPolicy(required=False)
seen: list[str] = []


def describe(request: Request) -> Response:
    operation = request.idempotency  # type: ignore[attr-defined]
    seen.append(operation.key_for("charge"))
    data: Any = request.data
    if data.get("fails"):
        raise RuntimeError
    return Response({"key": operation.key})


class Mixin(IdempotencyMixin, APIView):
    idempotency_policy = OPTIONAL

    def post(self, request: Request) -> Response:
        return describe(request)

    get = post


@api_view(["GET", "POST"])
@idempotent(policy=OPTIONAL)
def below(request: Request) -> Response:
    return describe(request)


class SignsIn(IdempotencyMixin, APIView):
    authentication_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        login(request._request, user(), "django.contrib.auth.backends.ModelBackend")
        Order.objects.create()
        response = Response({"ok": True}, status=201)
        response.set_cookie("secret", "cookie-value")
        response["Authorization"] = "Bearer secret-value"
        response["WWW-Authenticate"] = "Bearer secret-value"
        response["Location"] = "/orders/1/"
        response["ETag"] = '"v1"'
        return response


class Versioned(IdempotencyMixin, APIView):
    """Two policies on one view: the action decides."""

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        return None if self.request.query_params.get("dry") else OPTIONAL

    def post(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


urlpatterns = [
    path("mixin/", Mixin.as_view()),
    path("below/", below),
    path("sign-in/", SignsIn.as_view()),
    path("versioned/", Versioned.as_view()),
]
VIEWS = ["/mixin/", "/below/"]


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@pytest.mark.parametrize("path", VIEWS)
def test_handler_sees_its_key(path: str) -> None:
    assert send(signed_in(), path, key=f'"{KEY}"').json() == {"key": KEY}


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("path", VIEWS)
def test_handler_without_a_key_sees_none_and_gets_fresh_keys(
    path: str, method: str
) -> None:
    client = signed_in()
    answers = [send(client, path, method=method, key=None) for _ in range(2)]

    assert [each.json() for each in answers] == [{"key": None}] * 2
    assert len({uuid.UUID(key) for key in seen}) == 2


@pytest.mark.parametrize("path", VIEWS)
def test_derived_key_is_equal_on_every_attempt(path: str) -> None:
    client = signed_in()
    for _ in range(3):
        send(client, path, {"fails": True})

    assert (len(seen), len(set(seen))) == (3, 1)
    assert KEY not in seen


def test_derived_key_differs_between_views_and_users() -> None:
    for view in VIEWS:
        for name in ("ada", "eve"):
            send(signed_in(name), view)

    assert len(set(seen)) == 4


def test_no_cookie_and_no_secret_header_is_stored_or_replayed() -> None:
    """FR-066."""
    first = send(signed_in(), "/sign-in/")
    assert first.cookies["secret"].value == "cookie-value"
    again = send(signed_in("eve"), "/sign-in/")
    stored = str(IdempotencyRecord.objects.values().get())

    assert is_replay(again)
    assert "secret" not in again.cookies
    assert not {"Authorization", "WWW-Authenticate", "Set-Cookie"} & set(again.headers)
    assert (again.headers["Location"], again.headers["ETag"]) == ("/orders/1/", '"v1"')
    assert "secret-value" not in stored
    assert "cookie-value" not in stored


def test_session_of_whoever_gets_the_replay_stays_as_it_is() -> None:
    """FR-066."""
    send(signed_in(), "/sign-in/")
    second = signed_in("eve")
    before = second.session.session_key
    again = send(second, "/sign-in/")

    assert is_replay(again)
    assert second.session.session_key == before
    assert second.session["_auth_user_id"] == str(User.objects.get(username="eve").pk)


def test_policy_may_depend_on_the_request() -> None:
    client = signed_in()
    for _ in range(2):
        send(client, "/versioned/")
        send(client, "/versioned/?dry=1")

    assert orders() == 3
