"""No request makes the package fail: it is answered as the bare view would answer it."""

import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support import multipart_bodies as multipart
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
    JSON,
    ONCE,
    forgiving_client,
    is_replay,
    orders,
    place_order,
    send,
    signed_in_client,
    word,
    words,
)
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

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
# Django parses what is posted, and of no other method.
every_method = pytest.mark.parametrize("method", ["POST", "PATCH"])


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


PARTS = multipart.content_type()


def part(sent: bytes) -> dict[str, Any]:
    return {"url": "/post/", "body": multipart.body(sent), "content_type": PARTS}


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
    "multipart-name": part(multipart.field("a\0b", "\0")),
    "file-name": part(multipart.file("f\0", b"\0", filename="a\0b.txt")),
    "part-s-type": part(multipart.file("f", b"", content_type="text/\0")),
    "media-type": {"url": "/body/", "content_type": "text/\0plain; a=\0"},
}


@cases("request_", NULS)
@every_method
def test_nul_anywhere_runs_once_and_is_replayed(
    request_: dict[str, Any], method: str
) -> None:
    client = forgiving_client()
    assert (words(client, method=method, **request_), orders()) == (ONCE, 1)


def test_path_with_a_nul_is_not_the_path_that_it_is_stored_as() -> None:
    client = signed_in_client()
    send(client, "/indifferent/a%00b/")
    assert IdempotencyRecord.objects.get().path == "/indifferent/a\\x00b/"
    response = send(client, "/indifferent/a%5Cx00b/")

    assert (is_replay(response), orders()) == (False, 2)


@pytest.mark.parametrize(
    "rest",
    ["%FF%FE/", "%ED%A0%80/", "?%FF", "?a=%ED%A0%80", "?%", "?%zz", "?=&=&&", "??"],
)
def test_path_that_is_not_utf_8_and_odd_query_run_once(rest: str) -> None:
    assert words(forgiving_client(), f"/indifferent/{rest}") == ONCE
    assert orders() == 1


BODIES = {
    "json": (b"{}", JSON),
    "form": (b"a=1&b=2", FORM),
    "binary": (b"\0\xff", BINARY),
    "empty": (b"", ""),
    "multipart": (multipart.body(multipart.field("a", "1")), PARTS),
    "no-json": (b'{"a":', JSON),
    "no-json-bytes": (b"\xff\xfe\0", JSON),
    "no-form": (b"%zz&%&=&\xff", FORM),
    "form-other-charset": (b"a=%E9", f"{FORM}; charset=latin-1"),
    "form-unknown-charset": (b"a=1", f"{FORM}; charset=nonsense"),
    "json-unknown-charset": (b"{}", f"{JSON}; charset=nonsense"),
    "multipart-no-boundary": (b"x", "multipart/form-data"),
    "multipart-bad-boundary": (b"x", "multipart/form-data; boundary=\xe9"),
    "multipart-no-parts": (b"x", PARTS),
    "multipart-cut": (multipart.body(multipart.file("f", b"x" * 100))[:-40], PARTS),
    "multipart-empty": (b"", PARTS),
    "multipart-bad-base64": (
        multipart.body(
            b'Content-Disposition: form-data; name="a"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\n!"
        ),
        PARTS,
    ),
    "multipart-no-name": (
        *(multipart.body(b"Content-Disposition: form-data\r\n\r\nx"), PARTS),
    ),
    "multipart-mixed": (multipart.body(b"\r\nx"), "multipart/mixed; boundary=x"),
    "no-type": (b"x", ""),
    "odd-type": (b"x", ";;;=;"),
    "long-type": (b"x", "a/" + "b" * 5_000),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("view", VIEWS)
@every_method
def test_every_way_to_read_any_body_works_as_without_us(
    view: str, name: str, method: str
) -> None:
    """A broken form that is posted is answered as by a view that reads it."""
    body, content_type = BODIES[name]
    if method == "POST" and content_type.startswith((FORM, "multipart/form-data")):
        view = view if name in {"form", "multipart"} else "post"
    ours, bare = as_without_us(view, body, content_type, method)

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


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["in-memory", "on-disk"])
def test_multipart_reaches_the_view_whole(size: int) -> None:
    body = multipart.body(
        multipart.field("a", "1"),
        multipart.field("a", "2"),
        multipart.file("f", b"x" * size),
    )
    response = send(signed_in_client(), "/post/", body, multipart.content_type())

    read = {"fields": {"a": ["1", "2"]}, "files": {"f": size}}
    assert json.loads(response.content) == read


# ``HttpRequest()`` as unit tests make it: without a stream, a path or a user

order = idempotent(place_order)


def bare(**meta: str) -> HttpRequest:
    request = HttpRequest()
    request.method = "POST"
    request.META.update(meta)
    return request


def test_bare_request_runs_once() -> None:
    answers = [order(bare(HTTP_IDEMPOTENCY_KEY=GUEST_KEY)) for _ in range(2)]

    assert [word(each) for each in answers] == ONCE


def test_bare_request_without_a_key_is_refused() -> None:
    assert (word(order(bare())), orders()) == ("400 key-missing", 0)


def test_bare_request_may_be_given_a_form() -> None:
    answers = []
    for amount in "112":
        request = bare(HTTP_IDEMPOTENCY_KEY=GUEST_KEY)
        request._body = f"amount={amount}".encode()
        answers.append(word(order(request)))

    assert answers == [*ONCE, "422 key-reused"]
