"""No request makes the package fail: it is answered as the bare view would answer it."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support import multipart_bodies as multipart
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
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
    "body": body_view,
    "post": post_view,
    "indifferent": indifferent_view,
}
urlpatterns = [
    pattern
    for name, view in VIEWS.items()
    for pattern in (
        path(f"{name}/", csrf_exempt(idempotent(view))),
        path(f"{name}/<path:rest>/", idempotent(view)),
    )
]
# Django parses what is posted, and of no other method.
every_method = pytest.mark.parametrize("method", ["POST", "PATCH"])


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
