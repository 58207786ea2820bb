"""No request makes the package fail: it is answered as the bare view would answer it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.integration.ordering import JSON, is_replay, orders, signed_in_client
from tests.testapp.models import Order
from tests.unit import multipart_bodies as multipart

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

FORM = "application/x-www-form-urlencoded"
BINARY = "application/octet-stream"


def stream_view(request: HttpRequest, **route: str) -> HttpResponse:
    Order.objects.create()
    return JsonResponse({"read": len(request.read())}, status=201)


def body_view(request: HttpRequest, **route: str) -> HttpResponse:
    Order.objects.create()
    return JsonResponse({"read": len(request.body)}, status=201)


def post_view(request: HttpRequest, **route: str) -> HttpResponse:
    Order.objects.create()
    fields = {name: request.POST.getlist(name) for name in request.POST}
    files = {name: file.size for name, file in request.FILES.items()}  # type: ignore[union-attr]
    return JsonResponse({"fields": fields, "files": files}, status=201)


def indifferent_view(request: HttpRequest, **route: str) -> HttpResponse:
    Order.objects.create()
    return JsonResponse({}, status=201)


VIEWS = {
    "stream": stream_view,
    "body": body_view,
    "post": post_view,
    "indifferent": indifferent_view,
}
urlpatterns = [
    pattern
    for name, view in VIEWS.items()
    for pattern in (
        path(f"bare/{name}/", csrf_exempt(view)),
        path(f"{name}/", csrf_exempt(idempotent(view))),
        path(f"{name}/<path:rest>/", idempotent(view)),
    )
]
every_view = pytest.mark.parametrize("view", VIEWS)
every_method = pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])


def send(
    client: Client,
    url: str,
    body: bytes = b"{}",
    content_type: str = JSON,
    *,
    method: str = "POST",
    **headers: str,
) -> ClientResponse:
    return client.generic(
        method, url, body, content_type, headers={"Idempotency-Key": "K", **headers}
    )


def forgiving_client() -> Client:
    """A client that gets 500 where a server would answer it."""
    return signed_in_client(raise_request_exception=False)


def as_without_us(
    view: str, body: bytes, content_type: str, method: str = "POST"
) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    """Status and body of the protected view and of the bare one."""
    client = forgiving_client()
    bare = send(client, f"/bare/{view}/", body, content_type, method=method)
    ours = send(client, f"/{view}/", body, content_type, method=method)
    if bare.status_code >= 400:  # a page of Django's own names the path
        return (ours.status_code, b""), (bare.status_code, b"")
    return (ours.status_code, ours.content), (bare.status_code, bare.content)


NULS = {
    "path": {"url": "/indifferent/a%00b/"},
    "query": {"url": "/indifferent/?a%00=%00"},
    "raw-query": {"url": "/indifferent/?a=\0"},
    "header": {"url": "/indifferent/", "X-Note": "a\0b"},
    "user-agent": {"url": "/indifferent/", "User-Agent": "\0"},
    "json": {"url": "/body/", "body": b'{"a":"\\u0000"}'},
    "raw-body": {"url": "/body/", "body": b"\0" * 10},
    "form": {"url": "/post/", "body": b"a%00=%00", "content_type": FORM},
    "raw-form": {"url": "/post/", "body": b"a\0=\0", "content_type": FORM},
    "multipart-name": {
        "url": "/post/",
        "body": multipart.body(multipart.field("a\0b", "\0")),
        "content_type": multipart.content_type(),
    },
    "file-name": {
        "url": "/post/",
        "body": multipart.body(multipart.file("f\0", b"\0", filename="a\0b.txt")),
        "content_type": multipart.content_type(),
    },
    "part-s-type": {
        "url": "/post/",
        "body": multipart.body(multipart.file("f", b"", content_type="text/\0")),
        "content_type": multipart.content_type(),
    },
    "media-type": {"url": "/body/", "content_type": "text/\0plain; a=\0"},
}


@pytest.mark.parametrize("request_", NULS.values(), ids=NULS)
@every_method
def test_nul_anywhere_runs_once_and_is_replayed(
    request_: dict[str, Any], method: str
) -> None:
    client = forgiving_client()
    copies = [send(client, method=method, **request_) for _ in range(2)]

    assert [copy.status_code for copy in copies] == [201, 201]
    assert ([is_replay(copy) for copy in copies], orders()) == ([False, True], 1)


def test_nul_in_a_path_is_visible_in_the_record() -> None:
    send(signed_in_client(), "/indifferent/a%00b/")

    assert IdempotencyRecord.objects.get().path == "/indifferent/a\\x00b/"


def test_path_with_a_nul_is_not_the_path_that_looks_like_it() -> None:
    client = signed_in_client()
    send(client, "/indifferent/a%00b/")
    response = send(client, "/indifferent/a%5Cx00b/")

    assert (is_replay(response), orders()) == (False, 2)


@pytest.mark.parametrize("url", ["/indifferent/%FF%FE/", "/indifferent/%ED%A0%80/"])
def test_path_that_is_not_utf_8_runs_once(url: str) -> None:
    client = forgiving_client()
    copies = [send(client, url) for _ in range(2)]

    assert ([is_replay(copy) for copy in copies], orders()) == ([False, True], 1)


@pytest.mark.parametrize(
    "query", ["?%FF", "?a=%ED%A0%80", "?%", "?%zz", "?=&=&&", "??"]
)
def test_odd_query_runs_once(query: str) -> None:
    client = forgiving_client()
    copies = [send(client, f"/indifferent/{query}") for _ in range(2)]

    assert ([is_replay(copy) for copy in copies], orders()) == ([False, True], 1)


BROKEN = {
    "no-json": (b'{"a":', JSON),
    "no-json-bytes": (b"\xff\xfe\0", JSON),
    "no-form": (b"%zz&%&=&\xff", FORM),
    "form-other-charset": (b"a=%E9", f"{FORM}; charset=latin-1"),
    "form-unknown-charset": (b"a=1", f"{FORM}; charset=nonsense"),
    "json-unknown-charset": (b"{}", f"{JSON}; charset=nonsense"),
    "multipart-no-boundary": (b"x", "multipart/form-data"),
    "multipart-bad-boundary": (b"x", "multipart/form-data; boundary=\xe9"),
    "multipart-no-parts": (b"x", multipart.content_type()),
    "multipart-cut": (
        multipart.body(multipart.file("f", b"x" * 100))[:-40],
        multipart.content_type(),
    ),
    "multipart-empty": (b"", multipart.content_type()),
    "multipart-bad-base64": (
        multipart.body(
            b'Content-Disposition: form-data; name="a"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\n!"
        ),
        multipart.content_type(),
    ),
    "multipart-no-name": (
        multipart.body(b"Content-Disposition: form-data\r\n\r\nx"),
        multipart.content_type(),
    ),
    "multipart-mixed": (multipart.body(b"\r\nx"), "multipart/mixed; boundary=x"),
    "no-type": (b"x", ""),
    "odd-type": (b"x", ";;;=;"),
    "long-type": (b"x", "a/" + "b" * 5_000),
}


def is_form(content_type: str) -> bool:
    return content_type.startswith((FORM, "multipart/form-data"))


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("view", ["body", "post", "indifferent"])
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_broken_body_is_answered_as_without_us(
    view: str, name: str, method: str
) -> None:
    ours, bare = as_without_us(view, *BROKEN[name], method)

    assert ours == bare


@pytest.mark.parametrize(
    "name", [name for name, (_, type_) in BROKEN.items() if not is_form(type_)]
)
@pytest.mark.parametrize("view", ["body", "post", "indifferent"])
def test_broken_body_that_is_posted_is_answered_as_without_us(
    view: str, name: str
) -> None:
    ours, bare = as_without_us(view, *BROKEN[name])

    assert ours == bare


@pytest.mark.parametrize(
    "name", [name for name, (_, type_) in BROKEN.items() if is_form(type_)]
)
def test_broken_form_is_answered_as_by_a_view_that_reads_it(name: str) -> None:
    ours, bare = as_without_us("post", *BROKEN[name])

    assert ours == bare


@every_method
@pytest.mark.parametrize("view", ["stream", "body", "indifferent"])
@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1_000)
@pytest.mark.parametrize("content_type", [JSON, BINARY])
@pytest.mark.parametrize("size", [1_000, 1_001, 500_000])
def test_body_around_django_s_limit_is_answered_as_without_us(
    size: int, content_type: str, view: str, method: str
) -> None:
    ours, bare = as_without_us(view, b"1" * size, content_type, method)

    assert ours == bare


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1_000)
@pytest.mark.parametrize("body", [b"a=" + b"1" * 2_000, b"a=1&" * 1_200])
def test_form_over_django_s_limits_is_refused_as_by_a_view_that_reads_it(
    body: bytes,
) -> None:
    ours, bare = as_without_us("post", body, FORM)

    assert ours == bare == (400, b"")


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=1_000)
def test_body_over_the_limit_is_compared() -> None:
    client = signed_in_client()
    send(client, "/stream/", b"1" * 5_000, BINARY)
    again = send(client, "/stream/", b"1" * 5_000, BINARY)
    other = send(client, "/stream/", b"1" * 4_999 + b"2", BINARY)

    assert (is_replay(again), other.status_code, orders()) == (True, 422, 1)


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "limits",
    [
        {"DATA_UPLOAD_MAX_NUMBER_FIELDS": 1},
        {"DATA_UPLOAD_MAX_NUMBER_FILES": 1},
        {"DATA_UPLOAD_MAX_MEMORY_SIZE": 200},
    ],
    ids=["fields", "files", "memory"],
)
@pytest.mark.parametrize("view", ["stream", "indifferent"])
def test_multipart_that_django_does_not_parse_has_no_limits(
    view: str, limits: dict[str, Any], method: str
) -> None:
    body = multipart.body(
        *(multipart.field("a", "1" * 150) for _ in range(3)),
        *(multipart.file("f", b"1" * 150) for _ in range(3)),
    )
    with override_settings(**limits):
        ours, bare = as_without_us(view, body, multipart.content_type(), method)

    assert ours == bare


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["in-memory", "on-disk"])
def test_multipart_reaches_the_view_whole(size: int) -> None:
    body = multipart.body(
        multipart.field("a", "1"),
        multipart.field("a", "2"),
        multipart.file("f", b"x" * size),
    )
    response = send(signed_in_client(), "/post/", body, multipart.content_type())

    assert json.loads(response.content) == {
        "fields": {"a": ["1", "2"]},
        "files": {"f": size},
    }


@pytest.mark.parametrize("view", ["stream", "body"])
def test_multipart_can_be_read_raw_by_a_view_that_wants_it_so(view: str) -> None:
    body = multipart.body(multipart.field("a", "1"))
    ours, bare = as_without_us(view, body, multipart.content_type())

    assert ours == bare


@every_view
@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"{}", JSON, id="json"),
        pytest.param(b"a=1&b=2", FORM, id="form"),
        pytest.param(b"\0\xff", BINARY, id="binary"),
        pytest.param(b"", "", id="empty"),
    ],
)
def test_every_way_to_read_the_body_works_as_without_us(
    view: str, method: str, body: bytes, content_type: str
) -> None:
    ours, bare = as_without_us(view, body, content_type, method)

    assert ours == bare
