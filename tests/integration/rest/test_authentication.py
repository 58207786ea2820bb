"""Whoever could not make the request gets no replay of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.urls import path
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.decorators import (
    api_view,
    authentication_classes,
    permission_classes,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import KEY, is_replay, orders, send, signed_in, states, user

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class UserToken(TokenAuthentication):
    """The token is in a column of the user; emptying that deletes it."""

    def authenticate_credentials(self, key: str) -> tuple[User, str]:
        found = User.objects.filter(last_name=key, is_active=True).first()
        if found is None:
            raise AuthenticationFailed
        return found, key


def order(request: Request) -> Response:
    made = Order.objects.create()
    return Response({"order": made.pk, "by": request.user.username}, status=201)


class ByToken(IdempotencyMixin, APIView):
    authentication_classes = [UserToken]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        return order(request)


class BySession(ByToken):
    authentication_classes = [SessionAuthentication]


class Lazy(ByToken):
    """As REST framework allows: the user is asked for when somebody wants it."""

    permission_classes = [AllowAny]

    def perform_authentication(self, request: Request) -> None:
        pass


@api_view(["POST"])
@authentication_classes([UserToken])
@permission_classes([IsAuthenticated])
@idempotent
def by_token_below_api_view(request: Request) -> Response:
    return order(request)


class LazyBelow(APIView):
    authentication_classes = [UserToken]
    permission_classes = [AllowAny]

    def perform_authentication(self, request: Request) -> None:
        pass

    @idempotent
    def post(self, request: Request) -> Response:
        return order(request)


urlpatterns = [
    path("token/", ByToken.as_view()),
    path("token-below/", by_token_below_api_view),
    path("session/", BySession.as_view()),
    path("lazy/", Lazy.as_view()),
    path("lazy-below/", LazyBelow.as_view()),
]
TOKEN_VIEWS = ["/token/", "/token-below/"]
LAZY_VIEWS = ["/lazy/", "/lazy-below/"]


def with_token(username: str) -> APIClient:
    owner = user(username)
    owner.last_name = f"token-of-{username}"
    owner.save()
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Token {owner.last_name}")
    return client


@pytest.mark.parametrize("path", TOKEN_VIEWS)
def test_token_user_gets_a_replay(path: str) -> None:
    """FR-065."""
    client = with_token("ada")
    first, again = (send(client, path) for _ in range(2))

    assert (first.status_code, again.content) == (201, first.content)
    assert is_replay(again)
    assert orders() == 1


@pytest.mark.parametrize("path", TOKEN_VIEWS)
def test_deleted_token_gets_no_replay(path: str) -> None:
    """FR-065."""
    client = with_token("ada")
    first = send(client, path)
    User.objects.update(last_name="")
    refused = send(client, path)

    assert (first.status_code, refused.status_code) == (201, 401)
    assert not is_replay(refused)
    assert refused.headers["WWW-Authenticate"] == "Token"


@pytest.mark.parametrize("path", TOKEN_VIEWS)
def test_renewed_token_of_the_same_user_gets_the_replay(path: str) -> None:
    """The scope is the user, not what he signs in with."""
    first = send(with_token("ada"), path)
    User.objects.update(last_name="another")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Token another")

    assert send(client, path).content == first.content


@pytest.mark.parametrize("path", TOKEN_VIEWS)
def test_deactivated_token_user_gets_no_replay(path: str) -> None:
    """FR-065."""
    client = with_token("ada")
    send(client, path)
    User.objects.update(is_active=False)

    assert send(client, path).status_code == 401


def test_deactivated_session_user_gets_no_replay() -> None:
    """FR-065."""
    client = signed_in()
    first = send(client, "/session/")
    User.objects.update(is_active=False)
    refused = send(client, "/session/")

    assert (first.status_code, refused.status_code) == (201, 403)
    assert not is_replay(refused)


def test_signed_out_session_gets_no_replay() -> None:
    client = signed_in()
    send(client, "/session/")
    client.logout()

    assert send(client, "/session/").status_code == 403


def test_another_session_of_the_same_user_gets_the_replay() -> None:
    first = send(signed_in(), "/session/")

    assert send(signed_in(), "/session/").content == first.content


@pytest.mark.parametrize("path", [*TOKEN_VIEWS, *LAZY_VIEWS])
def test_two_users_with_one_key_get_an_answer_each(path: str) -> None:
    """FR-062, also where the user is asked for lazily."""
    answers = [send(with_token(name), path) for name in ("ada", "eve")]

    assert [each.json()["by"] for each in answers] == ["ada", "eve"]
    assert not any(is_replay(each) for each in answers)
    assert orders() == 2


@pytest.mark.parametrize("path", LAZY_VIEWS)
def test_lazily_authenticated_user_is_no_guest(path: str) -> None:
    """A guessable key is his own business."""
    answers = [send(with_token("ada"), path, key="1") for _ in range(2)]

    assert [each.status_code for each in answers] == [201, 201]
    assert orders() == 1


@pytest.mark.parametrize("path", TOKEN_VIEWS)
def test_other_payload_of_another_user_is_no_mismatch(path: str) -> None:
    """FR-063."""
    send(with_token("eve"), path, {"x": 1}, key="release-42")
    answer = send(with_token("ada"), path, {"y": 2}, key="release-42")

    assert answer.status_code == 201


@pytest.mark.parametrize("path", ["/token/", "/token-below/", "/session/"])
@pytest.mark.parametrize("key", [KEY, "", None], ids=["key", "bad-key", "no-key"])
def test_unauthenticated_first_call_is_refused_before_the_key_is_looked_at(
    path: str, key: str | None
) -> None:
    """FR-041."""
    response: Any = send(APIClient(), path, key=key)

    assert response.status_code in {401, 403}
    assert "code" not in response.json()
    assert (orders(), states()) == (0, [])


def test_scope_names_the_authenticated_user() -> None:
    send(with_token("ada"), "/token/")

    record = IdempotencyRecord.objects.get()
    assert record.scope == f"auth.User:{user('ada').pk}|POST|/token/"
