"""What the parser refuses is refused as without us, first call or replay."""

from __future__ import annotations

import pytest
from django.urls import path
from rest_framework.decorators import api_view, parser_classes
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import KEY, is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class NeverParses(IdempotencyMixin, APIView):
    parser_classes = [JSONParser]

    def post(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


class Unprotected(NeverParses):
    idempotency_policy = None


class Optional(NeverParses):
    idempotency_policy = IdempotencyPolicy(required=False)


@api_view(["POST"])
@parser_classes([JSONParser])
@idempotent
def below_api_view(request: Request) -> Response:
    return Response({"order": Order.objects.create().pk}, status=201)


urlpatterns = [
    path("mixin/", NeverParses.as_view()),
    path("below/", below_api_view),
    path("unprotected/", Unprotected.as_view()),
    path("optional/", Optional.as_view()),
]
PROTECTED = ["/mixin/", "/below/", "/optional/"]
BAD = {
    "foreign-type": ("<a/>", "application/xml", 415),
    "malformed": ('{"a": ', "application/json", 400),
    "not-utf-8": (b'{"a": "\xff"}', "application/json", 400),
}


@pytest.mark.parametrize(("body", "kind", "status"), BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("path", PROTECTED)
def test_bad_first_call_is_refused_and_leaves_the_key_free(
    path: str, body: str | bytes, kind: str, status: int
) -> None:
    """FR-041: 415 raised before the handler never makes a record."""
    client = signed_in()
    refused = send(client, path, body, format=None, content_type=kind)

    assert (refused.status_code, orders(), states()) == (status, 0, [])
    assert send(client, path, {"a": 1}).status_code == 201


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [BAD["foreign-type"], BAD["malformed"]],
    ids=["foreign-type", "malformed"],
)
@pytest.mark.parametrize("path", PROTECTED)
def test_bad_repeat_is_refused_and_gets_no_replay(
    path: str, body: str, kind: str, status: int
) -> None:
    client = signed_in()
    first = send(client, path, {"a": 1})
    refused = send(client, path, body, format=None, content_type=kind)

    assert (first.status_code, refused.status_code) == (201, status)
    assert not is_replay(refused)
    assert is_replay(send(client, path, {"a": 1}))


@pytest.mark.parametrize("path", PROTECTED)
def test_parser_speaks_before_the_key_is_missed(path: str) -> None:
    response = send(
        signed_in(), path, "{", key=None, format=None, content_type="application/json"
    )

    assert (response.status_code, orders()) == (400, 0)
    assert "code" not in response.json()


def test_view_without_policy_is_not_parsed() -> None:
    response = send(
        signed_in(), "/unprotected/", "<a/>", format=None, content_type="text/xml"
    )

    assert response.status_code == 201


@pytest.mark.parametrize("path", PROTECTED)
def test_empty_request_needs_no_type(path: str) -> None:
    client = signed_in()
    first, again = (
        client.generic("POST", path, headers={"Idempotency-Key": KEY}) for _ in "12"
    )

    assert (first.status_code, again.content) == (201, first.content)
    assert orders() == 1
