"""What a repeat gets: FR-030 to FR-038, and FR-020's kinds of answer."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.utils import timezone, translation
from django.views.decorators.gzip import gzip_page
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.integration.ordering import (
    JSON,
    is_replay,
    orders,
    problem_code,
    signed_in_client,
)
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\0\xff"
LONG = b"compressible " * 500


async def _chunks() -> AsyncIterator[bytes]:
    yield b"one"
    yield b"two"


def answer(kind: str) -> HttpResponseBase | None:
    match kind.partition("-"):
        case "status", _, status:
            return HttpResponse(b"" if status == "204" else b"body", status=int(status))
        case "json", _, _:
            return JsonResponse({"order": Order.objects.latest("pk").pk}, status=201)
        case "csv", _, _:
            return HttpResponse("ñ;é\n", content_type="text/csv; charset=latin-1")
        case "pdf", _, _:
            return HttpResponse(PDF, content_type="application/pdf")
        case "xml", _, _:
            return HttpResponse("<é/>", content_type="application/xml")
        case "empty", _, _:
            return HttpResponse(b"")
        case "untyped", _, _:
            response = HttpResponse(b"body")
            del response.headers["Content-Type"]
            return response
        case "long", _, _:
            return HttpResponse(LONG, content_type="text/plain")
        case "redirect", _, _:
            return HttpResponseRedirect("/orders/1/")
        case "stream", "-", "async":
            return StreamingHttpResponse(_chunks(), content_type="text/csv")
        case "stream", _, _:
            return StreamingHttpResponse(
                iter([b"one", b"two"]), content_type="text/csv"
            )
        case "file", _, _:
            return FileResponse(iter([b"one", b"two"]), filename="a.txt")
        case "headers", _, _:
            return _with_headers()
        case "nothing", _, _:
            return None
        case "missing", _, _:
            raise Http404
        case "error", _, _:
            raise ValueError("no")
        case _:
            raise AssertionError(kind)


def _with_headers() -> HttpResponse:
    response = HttpResponse(
        b"{}",
        content_type=JSON,
        status=201,
        headers={
            "Location": "/orders/1/",
            "ETag": '"1"',
            "Link": '</orders/?page=2>; rel="next"',
            "Content-Language": "de",
            "Cache-Control": "no-store",
            "X-Name": "caf\xe9",
            "Date": "Mon, 01 Jan 2024 00:00:00 GMT",
            "X-Request-Id": "7",
            "Server": "s",
            "WWW-Authenticate": "Basic",
            "Authorization": "Bearer secret",
        },
    )
    response.set_cookie("session", "secret")
    return response


@idempotent
def order_view(request: HttpRequest, kind: str) -> Any:
    Order.objects.create()
    return answer(kind)


@idempotent(max_body=len(LONG) - 1)
def short_memory_view(request: HttpRequest, kind: str) -> Any:
    Order.objects.create()
    return answer(kind)


@idempotent(keep_body=False)
def token_view(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return JsonResponse({"token": "S3CR3T"}, headers={"X-Kind": "token"}, status=201)


@idempotent
@gzip_page
def gzip_view(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(LONG, content_type="text/plain")


@idempotent
def language_view(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(translation.gettext("Yes"))


class RestView(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


@idempotent
def status_view(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(reference="pending")
    return JsonResponse({"status": order.reference}, status=201)


urlpatterns = [
    path("orders/<str:kind>/", order_view),
    path("short/<str:kind>/", short_memory_view),
    path("token/", token_view),
    path("gzip/", gzip_view),
    path("language/", language_view),
    path("rest/", RestView.as_view()),
    path("status/", status_view),
]


def send(
    client: Client, url: str, body: str = "{}", *, key: str = "K", **headers: str
) -> ClientResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(
        url, body, content_type=JSON, headers={"Idempotency-Key": key, **named}
    )


def body_of(response: HttpResponseBase) -> bytes:
    """The whole body, streamed or not."""
    if response.streaming:
        return b"".join(response)
    content: bytes = response.content  # type: ignore[attr-defined]
    return content


def is_omitted(response: ClientResponse) -> bool:
    return response.headers.get("Idempotency-Replay") == "omitted"


def headers_of(response: ClientResponse) -> dict[str, str]:
    """Headers without the marks of a replay."""
    marks = {"Idempotency-Replayed", "Idempotency-Replay"}
    return {
        name: value for name, value in response.headers.items() if name not in marks
    }


@pytest.mark.parametrize("status", [200, 201, 202, 204, 303, 400, 403, 404, 409, 422])
def test_fr030_status_body_and_headers_are_the_first(status: int) -> None:
    """FR-030."""
    client = signed_in_client()
    first = send(client, f"/orders/status-{status}/")
    again = send(client, f"/orders/status-{status}/")

    assert is_replay(again)
    assert (again.status_code, again.content, headers_of(again)) == (
        status,
        first.content,
        headers_of(first),
    )


def test_fr030_no_content_type_is_invented() -> None:
    """FR-030."""
    client = signed_in_client()
    for _ in range(2):
        response = send(client, "/orders/untyped/")

    assert (is_replay(response), "Content-Type" in response.headers) == (True, False)


@pytest.mark.parametrize("url", ["/orders/json/", "/rest/"])
@pytest.mark.parametrize("accept", ["text/html", "*/*", "application/xml", ""])
def test_fr031_stored_answer_goes_out_whatever_is_accepted(
    url: str, accept: str
) -> None:
    """FR-031."""
    client = signed_in_client()
    first = send(client, url, Accept=JSON)
    again = send(client, url, Accept=accept)

    assert (again.status_code, again.content, headers_of(again), orders()) == (
        201,
        first.content,
        headers_of(first),
        1,
    )


@pytest.mark.parametrize("kind", ["csv", "pdf", "xml", "empty", "json", "long"])
def test_fr032_body_is_the_first_byte_by_byte(kind: str) -> None:
    """FR-032."""
    client = signed_in_client()
    first = send(client, f"/orders/{kind}/")
    again = send(client, f"/orders/{kind}/")

    assert (
        is_replay(again),
        is_omitted(again),
        again.content,
        again.headers["Content-Type"],
    ) == (True, False, first.content, first.headers["Content-Type"])


@pytest.mark.parametrize(
    "header",
    ["Location", "ETag", "Link", "Content-Language", "Cache-Control", "X-Name"],
)
def test_fr033_header_of_the_answer_returns(header: str) -> None:
    """FR-033."""
    client = signed_in_client()
    first = send(client, "/orders/headers/")
    again = send(client, "/orders/headers/")

    assert (is_replay(again), again.headers[header]) == (True, first.headers[header])


PER_EXCHANGE = ["Date", "Server", "WWW-Authenticate", "Authorization"]


@pytest.mark.parametrize("header", [*PER_EXCHANGE, "Set-Cookie"])
def test_fr033_header_of_one_exchange_is_not_replayed(header: str) -> None:
    """FR-033."""
    client = signed_in_client()
    for _ in range(2):
        again = send(client, "/orders/headers/")

    assert header not in again.headers
    assert again.cookies.output() == ""


@override_settings(IDEMPOTENCY_HEADER_DENY_LIST=["Date", "x-request-id"])
def test_fr033_deny_list_can_be_configured() -> None:
    """FR-033."""
    client = signed_in_client()
    for _ in range(2):
        again = send(client, "/orders/headers/")

    assert is_replay(again)
    assert "X-Request-Id" not in again.headers


def test_fr033_what_is_not_replayed_is_not_stored_either() -> None:
    """FR-033."""
    send(signed_in_client(), "/orders/headers/")
    stored: Any = IdempotencyRecord.objects.get().response_headers

    assert "secret" not in repr(stored)
    assert {name for name, _ in stored} & set(PER_EXCHANGE) == set()


def _compressing(settings: Any) -> None:
    settings.MIDDLEWARE = [
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        *settings.MIDDLEWARE,
    ]


def decoded(response: ClientResponse) -> bytes:
    encoded = response.headers.get("Content-Encoding") == "gzip"
    return gzip.decompress(response.content) if encoded else response.content


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("gzip", "", id="gzip-then-plain"),
        pytest.param("", "gzip", id="plain-then-gzip"),
        pytest.param("gzip", "gzip", id="gzip-both"),
    ],
)
def test_fr034_each_client_can_decode_its_copy(
    first: str, second: str, settings: Any
) -> None:
    """FR-034."""
    _compressing(settings)
    client = signed_in_client()
    copies = [
        send(client, "/orders/long/", Accept_Encoding=accepted)
        for accepted in (first, second)
    ]

    assert [is_replay(copy) for copy in copies] == [False, True]
    for copy, accepted in zip(copies, (first, second), strict=True):
        assert copy.headers.get("Content-Encoding", "") == accepted
        assert copy.headers["Content-Length"] == str(len(copy.content))
        assert decoded(copy) == LONG


def test_fr034_answer_that_the_view_encoded_is_replayed_with_its_coding() -> None:
    """FR-034."""
    client = signed_in_client()
    copies = [send(client, "/gzip/", Accept_Encoding="gzip") for _ in range(2)]

    assert is_replay(copies[1])
    assert [decoded(copy) for copy in copies] == [LONG, LONG]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_fr035_first_client_gets_the_whole_stream(kind: str) -> None:
    """FR-035."""
    response = send(signed_in_client(), f"/orders/{kind}/")

    assert (response.status_code, body_of(response)) == (200, b"onetwo")


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_fr035_repeat_of_a_stream_says_that_the_body_is_omitted(kind: str) -> None:
    """FR-035."""
    client = signed_in_client()
    first = send(client, f"/orders/{kind}/")
    body_of(first)
    again = send(client, f"/orders/{kind}/")

    assert (is_replay(again), is_omitted(again), again.content, orders()) == (
        True,
        True,
        b"",
        1,
    )
    assert again.headers["Content-Type"] == first.headers["Content-Type"]


@pytest.mark.django_db(transaction=True)
def test_fr035_async_stream_reaches_the_first_client_whole() -> None:
    """FR-035."""
    client = AsyncClient()
    client.cookies = signed_in_client().cookies

    async def body() -> bytes:
        response: Any = await client.post(
            "/orders/stream-async/", "{}", JSON, headers={"Idempotency-Key": "K"}
        )
        return b"".join([chunk async for chunk in response])

    assert async_to_sync(body)() == b"onetwo"


@pytest.mark.parametrize(
    "url", ["/short/long/", "/short/json/"], ids=["over-the-limit", "within"]
)
def test_fr036_large_answer_is_never_made_twice(url: str) -> None:
    """FR-036."""
    client = signed_in_client()
    first, again = (send(client, url) for _ in range(2))

    assert (orders(), again.status_code, is_omitted(again)) == (
        1,
        first.status_code,
        url == "/short/long/",
    )
    assert again.content == (b"" if is_omitted(again) else first.content)


def test_fr036_first_client_gets_the_large_answer_whole() -> None:
    """FR-036."""
    assert send(signed_in_client(), "/short/long/").content == LONG


@override_settings(IDEMPOTENCY_MAX_BODY=1)
def test_fr036_limit_of_the_setting_holds() -> None:
    """FR-036."""
    client = signed_in_client()
    for _ in range(2):
        response = send(client, "/orders/long/")

    assert (is_omitted(response), response.content, orders()) == (True, b"", 1)


def test_fr037_replay_is_the_first_answer_though_the_world_has_changed() -> None:
    """FR-037."""
    client = signed_in_client()
    first = send(client, "/status/")
    Order.objects.update(reference="cancelled")
    again = send(client, "/status/")

    assert (is_replay(again), again.content) == (True, first.content)


def test_fr038_only_a_replay_is_marked() -> None:
    """FR-038."""
    client = signed_in_client()
    first = send(client, "/status/")
    replay = send(client, "/status/")
    mismatch = send(client, "/status/", '{"other":1}')
    IdempotencyRecord.objects.update(state="in_flight")
    in_flight = send(client, "/status/")

    marks = [
        (response.status_code, response.headers.get("Idempotency-Replayed"))
        for response in (first, replay, mismatch, in_flight)
    ]

    assert marks == [(201, None), (201, "true"), (422, None), (409, None)]
    assert (problem_code(mismatch), problem_code(in_flight)) == (
        "key-reused",
        "in-flight",
    )


@override_settings(IDEMPOTENCY_REPLAYED_HEADER="X-Replay")
def test_fr038_mark_has_the_configured_name() -> None:
    """FR-038."""
    client = signed_in_client()
    for _ in range(2):
        response = send(client, "/status/")

    assert response.headers["X-Replay"] == "true"


def test_fr067_body_that_must_not_be_kept_is_nowhere_in_the_database() -> None:
    """FR-067."""
    send(signed_in_client(), "/token/")

    assert "S3CR3T" not in repr(IdempotencyRecord.objects.values().get())


def test_fr067_repeat_makes_no_second_token_and_says_so() -> None:
    """FR-067."""
    client = signed_in_client()
    for _ in range(2):
        response = send(client, "/token/")

    assert (
        response.status_code,
        is_omitted(response),
        response.content,
        response.headers["X-Kind"],
        orders(),
    ) == (201, True, b"", "token", 1)


@override_settings(LANGUAGE_CODE="en")
def test_replay_is_announced_in_the_language_of_the_first_answer(
    settings: Any,
) -> None:
    settings.MIDDLEWARE = [
        "django.middleware.locale.LocaleMiddleware",
        *settings.MIDDLEWARE,
    ]
    client = signed_in_client()
    first = send(client, "/language/", Accept_Language="fr")
    again = send(client, "/language/", Accept_Language="de")

    assert (again.content, again.headers["Content-Language"]) == (first.content, "fr")


EVERY_KIND = ["json", "status-204", "redirect", "stream", "file"]


@pytest.mark.parametrize("kind", [*EVERY_KIND, "nothing", "missing", "error"])
@pytest.mark.django_db(transaction=True)
def test_fr020_no_kind_of_answer_leaves_a_record_in_flight(kind: str) -> None:
    """FR-020."""
    client = signed_in_client(raise_request_exception=False)
    body_of(send(client, f"/orders/{kind}/"))
    states = set(IdempotencyRecord.objects.values_list("state", flat=True))
    expected = {
        "nothing": {"released"},
        "error": {"released"},
        "missing": set(),
    }

    assert states == expected.get(kind, {"kept"})


def test_replay_is_counted_with_the_database_s_time() -> None:
    client = signed_in_client()
    for _ in range(3):
        send(client, "/status/")
    record = IdempotencyRecord.objects.get()

    assert record.replays == 2
    assert record.last_replayed_at is not None
    assert abs(record.last_replayed_at - timezone.now()) < timedelta(minutes=5)


def sessions_on_the_database() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )
        sessions: int = cursor.fetchone()[0]
        return sessions


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_fr107_replay_by_the_async_test_client_leaves_no_connection_open() -> None:
    """FR-107."""
    # That client closes the response in another thread than the view's.
    client = AsyncClient()
    client.cookies = signed_in_client().cookies
    before = sessions_on_the_database()
    for _ in range(2):
        response: Any = async_to_sync(client.post)(
            "/status/", "{}", JSON, headers={"Idempotency-Key": "K"}
        )

    assert (is_replay(response), sessions_on_the_database()) == (True, before)


@override_settings(IDEMPOTENCY_COUNT_REPLAYS=False)
def test_replay_is_not_counted_where_the_project_says_so() -> None:
    client = signed_in_client()
    for _ in range(2):
        send(client, "/status/")

    assert IdempotencyRecord.objects.get().replays == 0


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(5, id="number"),
        pytest.param("text", id="text"),
        pytest.param({"X-Name": "a"}, id="object"),
        pytest.param([["X-Name"]], id="one-part"),
        pytest.param([["X-Name", "a\nSet-Cookie: b"]], id="newline-in-a-value"),
        pytest.param([["X\nName", "a"]], id="newline-in-a-name"),
        pytest.param([["Náme", "a"]], id="non-ascii-name"),
        pytest.param([None], id="null-pair"),
    ],
)
def test_fr017_stored_answer_that_cannot_be_read_is_neither_run_again_nor_an_error(
    headers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-017."""
    client = signed_in_client()
    send(client, "/status/")
    IdempotencyRecord.objects.update(response_headers=headers)
    response = send(client, "/status/")

    assert (response.status_code, problem_code(response), orders()) == (
        409,
        "answer-unavailable",
        1,
    )
    assert "ERROR" in [record.levelname for record in caplog.records]


@pytest.mark.parametrize("status", [0, 42, 99, 600, 30_000])
def test_fr017_stored_status_that_is_none_is_unreadable(status: int) -> None:
    """FR-017."""
    client = signed_in_client()
    send(client, "/status/")
    IdempotencyRecord.objects.update(response_status=status)

    assert problem_code(send(client, "/status/")) == "answer-unavailable"


def test_stored_headers_are_a_list_of_pairs() -> None:
    send(signed_in_client(), "/orders/redirect/")
    stored: Any = IdempotencyRecord.objects.get().response_headers

    assert ["Location", "/orders/1/"] in stored
