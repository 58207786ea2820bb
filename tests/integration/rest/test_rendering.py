"""Rendered once, inside the transaction: what is kept are the bytes that were sent."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.urls import path
from rest_framework import serializers
from rest_framework.decorators import api_view, renderer_classes
from rest_framework.exceptions import APIException
from rest_framework.renderers import (
    BrowsableAPIRenderer,
    JSONRenderer,
    TemplateHTMLRenderer,
)
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

numbers = count()


class Numbered(serializers.Serializer[Any]):
    number = serializers.SerializerMethodField()

    def get_number(self, order: Any) -> int:
        return next(numbers)


class OutOfInk(Exception): ...


class BrokenRenderer(JSONRenderer):
    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        raise OutOfInk


class WritingRenderer(JSONRenderer):
    """It writes, as a lazy queryset in the data might read."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        Order.objects.create()
        return super().render(data, accepted_media_type, renderer_context)


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
        case "stream":
            return StreamingHttpResponse(iter([b"a", b"b"]))
        case "exception":
            raise APIException("no")
        case _:
            return None


class Mixin(IdempotencyMixin, APIView):
    def post(self, request: Request, kind: str) -> Any:
        return answer(kind, request)


@api_view(["POST"])
@idempotent
def below_api_view(request: Request, kind: str) -> Any:
    return answer(kind, request)


class Broken(IdempotencyMixin, APIView):
    renderer_classes = [BrokenRenderer]

    def post(self, request: Request) -> Response:
        Order.objects.create()
        return Response({}, status=201)


@api_view(["POST"])
@renderer_classes([BrokenRenderer])
@idempotent
def broken_below(request: Request) -> Response:
    Order.objects.create()
    return Response({}, status=201)


class Writing(IdempotencyMixin, APIView):
    renderer_classes = [WritingRenderer]

    def post(self, request: Request) -> Response:
        return Response({}, status=503)


class Browsable(IdempotencyMixin, APIView):
    renderer_classes = [BrowsableAPIRenderer, JSONRenderer]

    def get(self, request: Request) -> Response:
        return Response({"orders": orders()})

    def post(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


class Html(IdempotencyMixin, APIView):
    renderer_classes = [TemplateHTMLRenderer]

    def post(self, request: Request) -> Response:
        order = Order.objects.create()
        return Response({"pk": order.pk}, status=201, template_name="order.html")


urlpatterns = [
    path("mixin/<kind>/", Mixin.as_view()),
    path("below/<kind>/", below_api_view),
    path("broken/", Broken.as_view()),
    path("broken-below/", broken_below),
    path("writing/", Writing.as_view()),
    path("browsable/", Browsable.as_view()),
    path("html/", Html.as_view()),
]
KEPT = ["generator", "serializer", "lazy", "plain", "json", "template", "no-content"]


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("view", ["mixin", "below"])
def test_stored_bytes_are_the_sent_bytes(
    view: str, kind: str, either_way: bool
) -> None:
    """FR-099, FR-100: rendered once, whatever kind of response it is."""
    client = signed_in()
    first, again = (send(client, f"/{view}/{kind}/") for _ in range(2))

    assert first.status_code in {200, 201, 204}
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("Content-Type") == first.headers.get("Content-Type")
    assert (is_replay(again), orders()) == (True, 1)


@pytest.mark.parametrize("path", ["/broken/", "/broken-below/"])
def test_rendering_error_leaves_neither_answer_nor_order(
    path: str, either_way: bool
) -> None:
    """FR-099: Django would have rendered after the commit."""
    client = signed_in()
    statuses = [send(client, path).status_code for _ in range(2)]

    assert statuses == [500, 500]
    assert orders() == 0
    assert "kept" not in states()


def test_what_rendering_writes_belongs_to_the_transaction() -> None:
    send(signed_in(), "/writing/")

    assert orders() == 0


@pytest.mark.parametrize("view", ["mixin", "below"])
def test_stream_reaches_the_first_client_whole_and_is_not_run_again(view: str) -> None:
    client = signed_in()
    first, again = (send(client, f"/{view}/stream/") for _ in range(2))

    assert b"".join(first.streaming_content) == b"ab"
    assert (again.content, again.headers["Idempotency-Replay"]) == (b"", "omitted")
    assert (is_replay(again), orders()) == (True, 1)


@pytest.mark.parametrize("view", ["mixin", "below"])
def test_raised_server_error_is_answered_by_the_framework_and_released(
    view: str, either_way: bool
) -> None:
    """FR-100."""
    response = send(signed_in(), f"/{view}/exception/")

    assert (response.status_code, response.json()) == (500, {"detail": "no"})
    assert (orders(), "kept" in states()) == (0, False)


@pytest.mark.parametrize("view", ["mixin", "below"])
def test_view_that_returns_nothing_is_an_error_as_without_us(view: str) -> None:
    response = send(signed_in(), f"/{view}/nothing/")

    assert (response.status_code, orders()) == (500, 0)


@pytest.mark.parametrize("view", ["mixin", "below"])
@pytest.mark.parametrize("method", ["get", "put", "delete"])
def test_method_not_allowed_is_405_and_leaves_no_record(view: str, method: str) -> None:
    """FR-100."""
    response = send(signed_in(), f"/{view}/json/", method=method)

    assert (response.status_code, states()) == (405, [])
    assert "POST" in response.headers["Allow"]


def test_browsable_api_is_kept_as_the_page_that_was_sent(settings: Any) -> None:
    settings.STATIC_URL = "/static/"
    client = signed_in()
    page = {"Accept": "text/html"}
    first, again = (send(client, "/browsable/", headers=page) for _ in range(2))

    assert first.status_code == 201
    assert first.headers["Content-Type"].startswith("text/html")
    assert b"</html>" in first.content
    assert (again.content, is_replay(again), orders()) == (first.content, True, 1)


def test_browsable_page_itself_is_shown_without_a_key(settings: Any) -> None:
    settings.STATIC_URL = "/static/"
    response = signed_in().get("/browsable/", headers={"Accept": "text/html"})

    assert response.status_code == 200
    assert b"POST" in response.content


def test_template_renderer_is_kept(settings: Any, tmp_path: Any) -> None:
    (tmp_path / "order.html").write_text("<p>{{ pk }}</p>")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    client = signed_in()
    first, again = (send(client, "/html/") for _ in range(2))

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
