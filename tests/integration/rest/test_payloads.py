"""Uploads, forms and JSON are whole in the view, whoever touched them first (FR-098)."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpRequest
from django.urls import path
from rest_framework.decorators import api_view, parser_classes, permission_classes
from rest_framework.generics import CreateAPIView
from rest_framework.parsers import (
    BaseParser,
    FileUploadParser,
    FormParser,
    JSONParser,
    MultiPartParser,
)
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import is_replay, orders
from tests.testapp.models import Order

from .exchange import OrderSerializer, send, send_twice, signed_in

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]

BIG = 3 * 1024 * 1024
"""More than DATA_UPLOAD_MAX_MEMORY_SIZE."""


class StreamingParser(BaseParser):
    """Reads in pieces and keeps only a digest, for bodies that fit no memory."""

    media_type = "application/octet-stream"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, Any]:
        digest, size = hashlib.sha256(), 0
        while piece := stream.read(10_000):
            digest.update(piece)
            size += len(piece)
        return {"digest": digest.hexdigest(), "size": size}


class MeasuringParser(BaseParser):
    """Tells the view less than the client sent."""

    media_type = "text/plain"

    def parse(
        self, stream: Any, media_type: str | None = None, parser_context: Any = None
    ) -> dict[str, Any]:
        return {"size": len(stream.read())}


class LooksAtData(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return request.data is not None


PARSERS: list[type[BaseParser]] = [
    *(JSONParser, FormParser, MultiPartParser),
    *(StreamingParser, MeasuringParser),
]


def report(request: Request, **route: str) -> Response:
    """Say what the view could read."""
    Order.objects.create()
    data: Any = request.data
    files = {name: _described(file) for name, file in request.FILES.items()}
    fields = {name: _short(data[name]) for name in data if name not in files}
    return Response({"fields": fields, "files": files}, status=201)


def _short(value: Any) -> Any:
    return len(value) if isinstance(value, str) and len(value) > 1_000 else value


def _described(file: Any) -> list[Any]:
    with file:  # FileUploadParser's file is closed by nobody else
        return [file.name, file.size, hashlib.sha256(file.read()).hexdigest()]


class Mixin(IdempotencyMixin, APIView):
    parser_classes = PARSERS

    def post(self, request: Request, **route: str) -> Response:
        return report(request)

    put = patch = post


class Curious(Mixin):
    permission_classes = [LooksAtData]


class Uploads(Mixin):
    parser_classes = [FileUploadParser]


def below_api_view(
    parsers: list[type[BaseParser]], *permissions: type[BasePermission]
) -> Callable[..., Any]:
    view = permission_classes(permissions)(parser_classes(parsers)(idempotent(report)))
    return api_view(["POST", "PUT", "PATCH"])(view)


class Bulk(IdempotencyMixin, CreateAPIView[Order]):
    """One request, one key, many orders."""

    serializer_class = OrderSerializer
    queryset = Order.objects.all()

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        many = isinstance(self.request.data, list)
        return super().get_serializer(*args, many=many, **kwargs)


urlpatterns = [
    path("bulk/", Bulk.as_view()),
    path("mixin/", Mixin.as_view()),
    path("curious/", Curious.as_view()),
    path("below/", below_api_view(PARSERS)),
    path("curious-below/", below_api_view(PARSERS, LooksAtData)),
    path("upload/<filename>", Uploads.as_view()),
    path("upload-below/<filename>", below_api_view([FileUploadParser])),
]


def touching(part: str) -> Any:
    """Middleware that looks at this part of the request."""

    def factory(get_response: Callable[[HttpRequest], Any]) -> Any:
        def middleware(request: HttpRequest) -> Any:
            for file in getattr(request, part).values() if part == "FILES" else ():
                file.read()
            getattr(request, part)
            return get_response(request)

        return middleware

    return factory


touches_post, touches_body, touches_files = map(touching, ("POST", "body", "FILES"))


@pytest.fixture(params=[None, "touches_post", "touches_body", "touches_files"])
def touched_first(request: pytest.FixtureRequest, settings: Any) -> None:
    """Middleware that is the first to look at the payload."""
    if request.param is not None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.{request.param}"]


def upload(content: bytes = b"\x00\xff", name: str = "a.bin") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "image/png")


def described(content: bytes = b"\x00\xff", name: str = "a.bin") -> list[Any]:
    return [name, len(content), hashlib.sha256(content).hexdigest()]


VIEWS = ["/mixin/", "/curious/", "/below/", "/curious-below/"]
DOCUMENT = {"a": [1, "ä"], "b": {"c": 1.5}}
FORM = {"format": None, "content_type": "application/x-www-form-urlencoded"}
# How it is sent, what is sent, and what the view reads of it.
PAYLOADS: dict[str, tuple[dict[str, Any], Callable[[], Any], dict[str, Any]]] = {
    "json": ({}, lambda: DOCUMENT, {"fields": DOCUMENT, "files": {}}),
    "form": (
        FORM,
        lambda: "a=1&b=%C3%A4",
        {"fields": {"a": "1", "b": "ä"}, "files": {}},
    ),
    "multipart": (
        {"format": "multipart"},
        lambda: {"a": "1", "file": upload()},
        {"fields": {"a": "1"}, "files": {"file": described()}},
    ),
}


@pytest.mark.parametrize("method", ["post", "put"])
@pytest.mark.parametrize(("how", "payload", "read"), PAYLOADS.values(), ids=PAYLOADS)
@pytest.mark.parametrize("path", VIEWS)
def test_payload_is_whole(
    path: str,
    how: dict[str, Any],
    payload: Callable[[], Any],
    read: dict[str, Any],
    method: str,
    touched_first: None,
) -> None:
    client = signed_in()
    first, again = (
        send(client, path, payload(), method=method, **how) for _ in range(2)
    )

    assert first.json() == read
    assert (again.content, is_replay(again), orders()) == (first.content, True, 1)


@pytest.mark.parametrize("method", ["post", "put", "patch"])
@pytest.mark.parametrize("path", VIEWS)
def test_big_multipart_is_whole_and_each_byte_counts(path: str, method: str) -> None:
    content = b"x" * BIG
    client = signed_in()
    first, again, other = (
        send(client, path, {"file": upload(each)}, method=method, format="multipart")
        for each in (content, content, content[:-1] + b"y")
    )

    assert first.json()["files"] == {"file": described(content)}
    assert (again.content, is_replay(again), orders()) == (first.content, True, 1)
    assert other.status_code == 422


def streamed(client: APIClient, path: str, body: bytes, **kwargs: Any) -> Any:
    kind = "application/octet-stream"
    return send(client, path, body, format=None, content_type=kind, **kwargs)


@pytest.mark.parametrize("size", [100, BIG], ids=["small", "big"])
@pytest.mark.parametrize("path", VIEWS)
def test_streaming_parser_gets_every_byte_and_each_counts(path: str, size: int) -> None:
    client, body = signed_in(), b"ab" * (size // 2)
    first, again = (streamed(client, path, body) for _ in "12")
    other = streamed(client, path, body[:-1] + b"c")

    assert first.json()["fields"] == {
        "digest": hashlib.sha256(body).hexdigest(),
        "size": size,
    }
    assert (again.content, is_replay(again), orders()) == (first.content, True, 1)
    assert other.status_code == 422


@pytest.mark.parametrize("path", ["/mixin/", "/curious/", "/below/"])
def test_bytes_are_compared_and_not_what_the_parser_made_of_them(path: str) -> None:
    client = signed_in()
    kinds: dict[str, Any] = {"format": None, "content_type": "text/plain"}
    answers = [send(client, path, body, **kinds) for body in (b"abc", b"abd")]

    assert [each.status_code for each in answers] == [201, 422]


@pytest.mark.parametrize("method", ["post", "put"])
@pytest.mark.parametrize("size", [100, BIG], ids=["small", "big"])
@pytest.mark.parametrize("path", ["/upload/a.bin", "/upload-below/a.bin"])
def test_file_upload_parser_gets_the_file(
    path: str, size: int, method: str, settings: Any
) -> None:
    """FileUploadParser has no limit without us, and has none with us."""
    settings.FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * BIG
    client, body = signed_in(), b"x" * size
    first, again = (streamed(client, path, body, method=method) for _ in range(2))
    other = streamed(client, path, body[:-1] + b"y", method=method)

    assert first.json()["files"] == {"file": described(body)}
    assert (again.content, is_replay(again), orders()) == (first.content, True, 1)
    assert other.status_code == 422


@pytest.mark.parametrize("path", ["/upload/a.bin", "/upload-below/a.bin"])
def test_upload_of_a_replay_is_closed(path: str, tmp_path: Path, settings: Any) -> None:
    """The view, which would close it, doesn't run."""
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    client = signed_in()
    answers = [streamed(client, path, b"x" * BIG) for _ in range(2)]

    assert is_replay(answers[1])
    assert list(tmp_path.iterdir()) == []


def test_list_is_one_operation_done_wholly_and_once() -> None:
    client, both = signed_in(), [{"amount": 1}, {"amount": 2}]

    first, again = send_twice(client, "/bulk/", both)
    other = send(client, "/bulk/", both[::-1])

    assert [each["amount"] for each in first.data] == [1, 2]
    assert (again.content, is_replay(again)) == (first.content, True)
    assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    assert orders() == 2


@pytest.mark.parametrize("fault", [{"amount": "many"}, 7])
def test_list_with_one_bad_item_is_done_not_at_all(fault: Any) -> None:
    client = signed_in()

    refused = send(client, "/bulk/", [{"amount": 1}, fault])
    mended = send(client, "/bulk/", [{"amount": 1}])

    assert (refused.status_code, mended.status_code, orders()) == (400, 201, 1)
