"""Negotiation is no authorisation: a replay goes out in its stored type."""

from __future__ import annotations

import pytest
from django.urls import path
from rest_framework.decorators import api_view, renderer_classes
from rest_framework.renderers import JSONRenderer, StaticHTMLRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class JsonOnly(IdempotencyMixin, APIView):
    renderer_classes = [JSONRenderer]

    def post(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


class JsonOrHtml(JsonOnly):
    renderer_classes = [JSONRenderer, StaticHTMLRenderer]

    def post(self, request: Request) -> Response:
        order = Order.objects.create().pk
        html = request.accepted_renderer.format == "html"
        return Response(f"<p>{order}</p>" if html else {"order": order}, status=201)


class Unprotected(JsonOnly):
    idempotency_policy = None


class Optional(JsonOnly):
    idempotency_policy = IdempotencyPolicy(required=False)


@api_view(["POST"])
@renderer_classes([JSONRenderer])
@idempotent
def below_api_view(request: Request) -> Response:
    return Response({"order": Order.objects.create().pk}, status=201)


urlpatterns = [
    path("json/", JsonOnly.as_view()),
    path("both/", JsonOrHtml.as_view()),
    path("unprotected/", Unprotected.as_view()),
    path("optional/", Optional.as_view()),
    path("below/", below_api_view),
]
ACCEPTS = ["text/html", "*/*", "application/xml", "application/json; indent=4", None]


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("path", ["/json/", "/both/"])
def test_replay_has_the_stored_bytes_and_type_whatever_is_accepted(
    path: str, accept: str | None
) -> None:
    """FR-031: never 406, never rendered again."""
    client = signed_in()
    first = send(client, path, headers={"Accept": "application/json"})
    headers = {} if accept is None else {"Accept": accept}
    again = send(client, path, headers=headers)

    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert is_replay(again)
    assert orders() == 1


def test_first_answer_is_negotiated_and_kept_in_that_type() -> None:
    client = signed_in()
    first = send(client, "/both/", headers={"Accept": "text/html"})
    again = send(client, "/both/", headers={"Accept": "application/json"})

    assert first.content.startswith(b"<p>")
    assert again.content == first.content
    assert again.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize("path", ["/json/", "/below/", "/unprotected/"])
def test_first_call_that_accepts_nothing_we_have_is_406_and_not_kept(path: str) -> None:
    client = signed_in()
    refused = send(client, path, headers={"Accept": "application/xml"})
    assert (refused.status_code, orders(), states()) == (406, 0, [])

    assert send(client, path).status_code == 201


def test_not_acceptable_without_a_key_is_406() -> None:
    refused = send(
        signed_in(), "/optional/", key=None, headers={"Accept": "application/xml"}
    )

    assert (refused.status_code, orders()) == (406, 0)


def test_safe_method_that_accepts_nothing_we_have_is_406() -> None:
    client = signed_in()

    assert client.options("/json/", headers={"Accept": "a/b"}).status_code == 406


def test_mismatch_is_told_whatever_is_accepted() -> None:
    client = signed_in()
    send(client, "/json/", {"a": 1})
    other = send(client, "/json/", {"a": 2}, headers={"Accept": "application/xml"})

    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
