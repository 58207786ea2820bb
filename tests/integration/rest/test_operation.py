"""What the handler finds in ``request.idempotency``, and what is stored of it."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import login
from django.http import HttpResponse
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.metadata import BaseMetadata
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import is_replay, orders
from tests.testapp.models import Order

from .exchange import KEY, OrderView, send, send_twice, signed_in, user

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

OPTIONAL = IdempotencyPolicy(required=False)
seen: list[str] = []


def describe(request: Request, /) -> Response:
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


class Chooses(IdempotencyMixin, ViewSet):
    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        return {
            "create": IdempotencyPolicy(retention=timedelta(hours=1)),
            "partial_update": IdempotencyPolicy(
                required=False, intent_window=timedelta(seconds=30)
            ),
            "destroy": None,
        }[self.action]

    def create(self, request: Request, **route: Any) -> Response:
        return Response({"is_same": self.idempotency is request.idempotency})  # type: ignore[attr-defined]

    partial_update = destroy = list = create


class Listing(BaseMetadata):
    def determine_metadata(self, request: Request, view: APIView) -> Any:
        return ["nothing"]


class ForeignMetadata(Mixin):
    metadata_class = Listing


class Preflight(APIView):
    def options(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return HttpResponse("nothing")


class ForeignOptions(IdempotencyMixin, Preflight):
    def post(self, request: Request) -> Response:
        return Response()


class SignsIn(IdempotencyMixin, APIView):
    authentication_classes: list[Any] = []

    def post(self, request: Request) -> Response:
        login(request._request, user(), "django.contrib.auth.backends.ModelBackend")
        Order.objects.create()
        response = Response({"ok": True}, status=201)
        response.set_cookie("secret", "cookie-value")
        return response


class Versioned(IdempotencyMixin, OrderView):
    """Two policies on one view: the action decides."""

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        return None if self.request.query_params.get("dry") else OPTIONAL


urlpatterns = [
    path("foreign-metadata/", ForeignMetadata.as_view()),
    path("foreign-options/", ForeignOptions.as_view()),
    path(
        "chooses/",
        Chooses.as_view(
            {
                "get": "list",
                "post": "create",
                "patch": "partial_update",
                "delete": "destroy",
            }
        ),
    ),
    path("mixin/", Mixin.as_view()),
    path("below/", api_view(["GET", "POST"])(idempotent(policy=OPTIONAL)(describe))),
    path("sign-in/", SignsIn.as_view()),
    path("versioned/", Versioned.as_view()),
]
both = pytest.mark.parametrize("path", ["/mixin/", "/below/"])


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


@both
def test_handler_sees_its_key(path: str) -> None:
    assert send(signed_in(), path, key=f'"{KEY}"').json() == {"key": KEY}


@pytest.mark.parametrize("method", ["get", "post"])
@both
def test_handler_without_a_key_sees_none_and_gets_fresh_keys(
    path: str, method: str
) -> None:
    answers = send_twice(signed_in(), path, method=method, key=None)

    assert [each.json() for each in answers] == [{"key": None}] * 2
    assert len({uuid.UUID(key) for key in seen}) == 2


@both
def test_derived_key_is_equal_on_every_attempt(path: str) -> None:
    client = signed_in()
    for _ in range(3):
        send(client, path, {"fails": True})

    assert (len(seen), len(set(seen))) == (3, 1)
    assert KEY not in seen


def test_replay_carries_no_secret_of_the_first_answer_and_signs_nobody_in() -> None:
    """FR-066; which headers are left out is shown by FR-033."""
    first = send(signed_in(), "/sign-in/")
    assert first.cookies["secret"].value == "cookie-value"
    second = signed_in("eve")
    before = second.session.session_key
    again = send(second, "/sign-in/")
    stored = str(IdempotencyRecord.objects.values().get())

    assert is_replay(again)
    assert "secret" not in again.cookies
    assert "cookie-value" not in stored
    assert second.session.session_key == before
    assert second.session["_auth_user_id"] == str(user("eve").pk)


def test_policy_may_depend_on_the_request() -> None:
    client = signed_in()
    for _ in range(2):
        send(client, "/versioned/")
        send(client, "/versioned/?dry=1")

    assert orders() == 3


@pytest.mark.parametrize("method", ["post", "patch", "delete", "get"])
def test_view_has_the_operation_that_its_request_has(method: str) -> None:
    answer = send(signed_in(), "/chooses/", {}, method=method)

    assert answer.data == {"is_same": True}


@pytest.mark.parametrize("client", ["guest", "signed-in"])
def test_options_tell_by_method_what_the_policy_says(client: str) -> None:
    http = APIClient() if client == "guest" else signed_in()

    told = http.options("/chooses/").json()
    again = http.options("/mixin/").json()

    assert told["idempotency"] == {
        "header": "Idempotency-Key",
        "expires": "Idempotency-Expires",
        "retry": ["new-key", "no", "same-key"],
        "confirm": "Idempotency-Confirm",
        "methods": {
            "PATCH": {
                "required": False,
                "retention_seconds": 48 * 3600,
                "intent_window_seconds": 30,
            },
            "POST": {"required": True, "retention_seconds": 3600},
        },
    }
    # No header for what is never asked.
    assert "confirm" not in again["idempotency"]
    assert again["idempotency"]["methods"] == {
        "POST": {"required": False, "retention_seconds": 48 * 3600}
    }
    assert (told["name"], again["name"]) == ("Chooses", "Mixin")


def test_metadata_of_another_form_is_left_alone() -> None:
    assert APIClient().options("/foreign-metadata/").json() == ["nothing"]
    assert APIClient().options("/foreign-options/").content == b"nothing"
