"""Parsed as without us, and rendered once: what is kept are the bytes that were sent."""

import json
from itertools import count
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.urls import path
from rest_framework import serializers
from rest_framework.decorators import api_view, parser_classes, renderer_classes
from rest_framework.parsers import JSONParser
from rest_framework.renderers import (
    BrowsableAPIRenderer,
    JSONRenderer,
    StaticHTMLRenderer,
    TemplateHTMLRenderer,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import is_replay, orders
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import KEY, OrderView, order, send, send_twice, signed_in

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

numbers = count()


class Numbered(serializers.Serializer[Any]):
    number = serializers.SerializerMethodField()

    def get_number(self, order: Any) -> int:
        return next(numbers)


class OutOfInk(Exception): ...


class BrokenRenderer(JSONRenderer):
    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        raise OutOfInk


class WritingRenderer(JSONRenderer):
    """It writes, as a lazy queryset in the data might read."""

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        Order.objects.create()
        return super().render(data, *args, **kwargs)


def answer(kind: str, request: Any) -> Any:
    order = Order.objects.create()
    match kind:
        case "generator":
            return Response({"items": (n for n in range(3))}, status=201)
        case "serializer":
            return Response(Numbered(order).data, status=201)
        case "lazy":
            return Response({"numbers": map(str, (next(numbers) for _ in "ab"))})
        case "plain":
            return HttpResponse(b"\x00\xff", content_type="application/pdf")
        case "json":
            return JsonResponse({"order": order.pk})
        case "template":
            template = engines["django"].from_string("order {{ pk }}")
            return TemplateResponse(request, template, {"pk": order.pk})
        case "no-content":
            return Response(status=204)
        case _:
            return None


def by_kind(request: Request, /, kind: str) -> Any:
    return answer(kind, request)


class Mixin(IdempotencyMixin, APIView):
    def post(self, request: Request, kind: str) -> Any:
        return by_kind(request, kind)


class Broken(IdempotencyMixin, OrderView):
    renderer_classes = [BrokenRenderer]


class Writing(IdempotencyMixin, APIView):
    renderer_classes = [WritingRenderer]

    def post(self, request: Request) -> Response:
        return Response({}, status=503)


class Browsable(IdempotencyMixin, OrderView):
    renderer_classes = [BrowsableAPIRenderer, JSONRenderer]

    def get(self, request: Request) -> Response:
        return Response({"orders": orders()})


class Html(IdempotencyMixin, APIView):
    renderer_classes = [TemplateHTMLRenderer]

    def post(self, request: Request) -> Response:
        order = Order.objects.create()
        return Response({"pk": order.pk}, status=201, template_name="order.html")


class JsonOnly(IdempotencyMixin, OrderView):
    parser_classes = [JSONParser]
    renderer_classes = [JSONRenderer]


class JsonOrHtml(JsonOnly):
    renderer_classes = [JSONRenderer, StaticHTMLRenderer]

    def post(self, request: Request, **route: str) -> Response:
        order = Order.objects.create().pk
        html = request.accepted_renderer.format == "html"
        return Response(f"<p>{order}</p>" if html else {"order": order}, status=201)


class Unprotected(JsonOnly):
    idempotency_policy = None


class Optional(JsonOnly):
    idempotency_policy = IdempotencyPolicy(required=False)


json_in, json_out = parser_classes([JSONParser]), renderer_classes([JSONRenderer])

urlpatterns = [
    path("mixin/", JsonOnly.as_view()),
    path("both/", JsonOrHtml.as_view()),
    path("below/", api_view(["POST"])(json_in(json_out(idempotent(order))))),
    path("unprotected/", Unprotected.as_view()),
    path("optional/", Optional.as_view()),
    path("mixin/<kind>/", Mixin.as_view()),
    path("below/<kind>/", api_view(["POST"])(idempotent(by_kind))),
    path("broken/", Broken.as_view()),
    path(
        "broken-below/",
        api_view(["POST"])(renderer_classes([BrokenRenderer])(idempotent(order))),
    ),
    path("writing/", Writing.as_view()),
    path("browsable/", Browsable.as_view()),
    path("html/", Html.as_view()),
]
both = pytest.mark.parametrize("view", ["mixin", "below"])
KEPT = ["generator", "serializer", "lazy", "plain", "json", "template", "no-content"]


@pytest.mark.parametrize("kind", KEPT)
@both
def test_stored_bytes_are_the_sent_bytes(
    view: str, kind: str, either_way: bool
) -> None:
    """FR-099, FR-100: rendered once, whatever kind of response it is."""
    first, again = send_twice(signed_in(), f"/{view}/{kind}/")

    assert first.status_code in {200, 201, 204}
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("Content-Type") == first.headers.get("Content-Type")
    assert (is_replay(again), orders()) == (True, 1)
    assert isinstance(again, Response) is isinstance(first, Response)
    if isinstance(again, Response):
        assert again.data == json.loads(first.content or b"null")
        assert again.accepted_media_type == first.accepted_media_type
        assert type(again.accepted_renderer) is type(first.accepted_renderer)


def wrapping(get_response: Any) -> Any:
    """As projects do that put all their answers into an envelope."""

    def middleware(request: HttpRequest) -> Any:
        response = get_response(request)
        if isinstance(response, Response):
            response.data = {"answer": response.data}
            response._is_rendered = False  # type: ignore[attr-defined]
            response.render()
        return response

    return middleware


@pytest.mark.parametrize(
    "kind", ["json", "serializer", "no-content", "plain", "template"]
)
@both
def test_middleware_that_renders_anew_gets_from_a_replay_what_it_got_before(
    view: str, kind: str, settings: Any
) -> None:
    settings.MIDDLEWARE = [f"{__name__}.wrapping", *settings.MIDDLEWARE]
    first, again = send_twice(signed_in(), f"/{view}/{kind}/")

    assert (again.content, is_replay(again)) == (first.content, True)


@pytest.mark.parametrize("path", ["/broken/", "/broken-below/"])
def test_rendering_error_leaves_neither_answer_nor_order(
    path: str, either_way: bool
) -> None:
    """FR-099: Django would have rendered after the commit."""
    statuses = [each.status_code for each in send_twice(signed_in(), path)]

    assert statuses == [500, 500]
    assert orders() == 0
    assert "kept" not in states()


def test_what_rendering_writes_belongs_to_the_transaction() -> None:
    send(signed_in(), "/writing/")

    assert orders() == 0


@both
def test_view_that_returns_nothing_is_an_error_as_without_us(view: str) -> None:
    response = send(signed_in(), f"/{view}/nothing/")

    assert (response.status_code, orders()) == (500, 0)


@both
@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_method_not_allowed_is_405_and_leaves_no_record(view: str, method: str) -> None:
    """FR-100."""
    response = send(signed_in(), f"/{view}/json/", method=method)

    assert (response.status_code, states()) == (405, [])
    assert "POST" in response.headers["Allow"]


def test_browsable_api_is_kept_as_the_page_that_was_sent(settings: Any) -> None:
    settings.STATIC_URL = "/static/"
    client, page = signed_in(), {"Accept": "text/html"}
    form = client.get("/browsable/", headers=page)
    first, again = send_twice(client, "/browsable/", headers=page)

    assert (form.status_code, b"POST" in form.content) == (200, True)
    assert first.status_code == 201
    assert first.headers["Content-Type"].startswith("text/html")
    assert b"</html>" in first.content
    assert (again.content, is_replay(again), orders()) == (first.content, True, 1)


def test_template_renderer_is_kept(settings: Any, tmp_path: Any) -> None:
    (tmp_path / "order.html").write_text("<p>{{ pk }}</p>")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    first, again = send_twice(signed_in(), "/html/")

    assert first.content == f"<p>{Order.objects.get().pk}</p>".encode()
    assert (again.content, is_replay(again)) == (first.content, True)
    assert again.headers["Content-Type"] == "text/html; charset=utf-8"


def test_plain_view_renders_a_template_inside_the_transaction() -> None:
    """The same promise without REST framework."""
    template = engines["django"].from_string("{{ order.pk }}{% now 'u' %}")

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        order = Order.objects.create()
        return TemplateResponse(request, template, {"order": order})

    headers = {"Idempotency-Key": "k" * 30}
    first, again = (
        view(RequestFactory().post("/order/", headers=headers)) for _ in range(2)
    )

    assert again.content == first.content


# Renderers and types

protected = pytest.mark.parametrize("path", ["/mixin/", "/below/", "/optional/"])


def test_view_without_policy_is_not_parsed() -> None:
    response = send(
        signed_in(), "/unprotected/", "<a/>", format=None, content_type="text/xml"
    )

    assert response.status_code == 201


@protected
def test_empty_request_needs_no_type(path: str) -> None:
    client = signed_in()
    first, again = (
        client.generic("POST", path, headers={"Idempotency-Key": KEY}) for _ in "12"
    )

    assert (first.status_code, again.content) == (201, first.content)
    assert orders() == 1


# Negotiation is no authorisation: a replay goes out in its stored type


ACCEPTS = ["text/html", "*/*", "application/xml", "application/json; indent=4", ""]


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize(
    ("path", "negotiated"),
    [
        ("/mixin/", "application/json"),
        ("/both/", "application/json"),
        ("/both/", "text/html"),
    ],
)
def test_replay_has_the_stored_bytes_and_type_whatever_is_accepted(
    path: str, negotiated: str, accept: str
) -> None:
    """FR-031: never 406, never rendered again."""
    client = signed_in()
    first = send(client, path, headers={"Accept": negotiated})
    again = send(client, path, headers={"Accept": accept})

    assert first.headers["Content-Type"].startswith(negotiated)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Content-Type"] == first.headers["Content-Type"]
    assert (is_replay(again), orders()) == (True, 1)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        *(("/mixin/", KEY), ("/below/", KEY)),
        *(("/unprotected/", KEY), ("/optional/", None)),
    ],
)
def test_first_call_that_accepts_nothing_we_have_is_406_and_not_kept(
    path: str, key: str | None
) -> None:
    client = signed_in()
    refused = send(client, path, key=key, headers={"Accept": "application/xml"})
    assert (refused.status_code, orders(), states()) == (406, 0, [])

    assert send(client, path, key=key).status_code == 201


def test_safe_method_that_accepts_nothing_we_have_is_406() -> None:
    client = signed_in()

    assert client.options("/mixin/", headers={"Accept": "a/b"}).status_code == 406


def test_mismatch_is_told_whatever_is_accepted() -> None:
    client = signed_in()
    send(client, "/mixin/", {"a": 1})
    other = send(client, "/mixin/", {"a": 2}, headers={"Accept": "application/xml"})

    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
