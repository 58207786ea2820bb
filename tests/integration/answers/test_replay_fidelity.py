"""What a repeat gets: FR-030, FR-032 to FR-038, and FR-020's kinds of answer.

FR-034, FR-035, FR-036 and FR-037 among them; FR-017: what was stored and can't be read;
FR-107: connections.
"""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
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
from django.test import AsyncClient, override_settings
from django.urls import path
from django.utils import timezone, translation
from django.views.decorators.gzip import gzip_page

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.cases import cases
from tests.support.ordering import (
    JSON,
    ONCE,
    is_replay,
    orders,
    place_order,
    send,
    signed_in_client,
    word,
    words,
)
from tests.support.records import change, record, states
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\0\xff"
LONG = b"compressible " * 500


CHUNKS = [b"one", b"two"]


async def _chunks() -> AsyncIterator[bytes]:
    for chunk in CHUNKS:
        yield chunk


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
            "Server": "s",
            "WWW-Authenticate": "Basic",
            "Authorization": "Bearer secret",
        },
    )
    response.set_cookie("session", "secret")
    return response


def _raising(error: Exception) -> Callable[[], None]:
    def answer() -> None:
        raise error

    return answer


ANSWERS: dict[str, Callable[[], HttpResponseBase | None]] = {
    **{
        f"status-{status}": partial(HttpResponse, status=status)
        for status in (200, 201, 204, 303, 404, 422, 503)
    },
    "json": lambda: JsonResponse({"order": Order.objects.latest("pk").pk}, status=201),
    "csv": lambda: HttpResponse("ñ;é\n", content_type="text/csv; charset=latin-1"),
    "pdf": lambda: HttpResponse(PDF, content_type="application/pdf"),
    "long": lambda: HttpResponse(LONG, content_type="text/plain"),
    "redirect": lambda: HttpResponseRedirect("/orders/1/"),
    "stream": lambda: StreamingHttpResponse(iter(CHUNKS), content_type="text/csv"),
    "stream-async": lambda: StreamingHttpResponse(_chunks(), content_type="text/csv"),
    "file": lambda: FileResponse(iter(CHUNKS), filename="a.txt"),
    "headers": _with_headers,
    "nothing": lambda: None,
    "missing": _raising(Http404()),
    "error": _raising(ValueError()),
}


@idempotent
def order_view(request: HttpRequest, kind: str) -> Any:
    Order.objects.create()
    return ANSWERS[kind]()


@idempotent(max_body=len(LONG) - 1)
def short_memory_view(request: HttpRequest, kind: str) -> Any:
    Order.objects.create()
    return ANSWERS[kind]()


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


urlpatterns = [
    path("orders/<str:kind>/", order_view),
    path("short/<str:kind>/", short_memory_view),
    path("token/", token_view),
    path("gzip/", gzip_view),
    path("language/", language_view),
    path("status/", idempotent(place_order)),
]


def twice(url: str, **headers: str) -> list[ClientResponse]:
    client = signed_in_client()
    return [send(client, url, **headers) for _ in range(2)]


def body_of(response: HttpResponseBase) -> bytes:
    """The whole body, streamed or not."""
    if response.streaming:
        return b"".join(response)
    content: bytes = response.content  # type: ignore[attr-defined]
    return content


def is_omitted(response: ClientResponse) -> bool:
    return response.headers.get("Idempotency-Replay") == "omitted"


def headers_of(response: ClientResponse) -> dict[str, str]:
    """Headers without the marks of a replay, and without what `test_endings` compares."""
    marks = {"Idempotency-Replayed", "Idempotency-Replay", "Idempotency-Expires"}
    return {
        name: value for name, value in response.headers.items() if name not in marks
    }


@pytest.mark.parametrize(
    "kind",
    [
        *(f"status-{status}" for status in (200, 201, 204, 303, 404, 422)),
        *("csv", "pdf", "json", "long"),
    ],
)
def test_repeat_is_the_first_answer_byte_by_byte(kind: str) -> None:
    """FR-030, FR-032; the rest of what an answer can be is in `tests/unit`."""
    first, again = twice(f"/orders/{kind}/")

    assert (is_replay(again), is_omitted(again)) == (True, False)
    assert (again.status_code, again.content, headers_of(again)) == (
        first.status_code,
        first.content,
        headers_of(first),
    )


KEPT_HEADERS = [
    *("Location", "ETag", "Link", "Content-Language", "Cache-Control", "X-Name")
]
PER_EXCHANGE = ["Date", "Server", "WWW-Authenticate", "Authorization", "Set-Cookie"]


def test_fr033_headers_return_but_for_those_of_one_exchange() -> None:
    """FR-033: which are not stored either."""
    first, again = twice("/orders/headers/")
    stored: Any = record().response_headers

    assert is_replay(again)
    assert [again.headers[name] for name in KEPT_HEADERS] == [
        first.headers[name] for name in KEPT_HEADERS
    ]
    assert set(PER_EXCHANGE) & set(again.headers) == set()
    assert again.cookies.output() == ""
    assert ["Location", "/orders/1/"] in stored
    assert {name for name, _ in stored} & set(PER_EXCHANGE) == set()
    assert "secret" not in repr(stored)


def decoded(response: ClientResponse) -> bytes:
    encoded = response.headers.get("Content-Encoding") == "gzip"
    return gzip.decompress(response.content) if encoded else response.content


@pytest.mark.parametrize(
    ("first", "second"), [("gzip", ""), ("", "gzip"), ("gzip", "gzip")]
)
def test_fr034_each_client_can_decode_its_copy(
    first: str, second: str, settings: Any
) -> None:
    settings.MIDDLEWARE = [
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        *settings.MIDDLEWARE,
    ]
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
    copies = twice("/gzip/", Accept_Encoding="gzip")

    assert is_replay(copies[1])
    assert [decoded(copy) for copy in copies] == [LONG, LONG]


@pytest.mark.parametrize("kind", ["stream", "file"])
def test_fr035_stream_reaches_the_first_client_whole_and_its_repeat_says_so(
    kind: str,
) -> None:
    client = signed_in_client()
    first = send(client, f"/orders/{kind}/")
    assert (first.status_code, body_of(first)) == (200, b"onetwo")
    again = send(client, f"/orders/{kind}/")

    assert [is_replay(again), is_omitted(again), again.content] == [True, True, b""]
    assert orders() == 1
    assert again.headers["Content-Type"] == first.headers["Content-Type"]


@pytest.mark.django_db(transaction=True)
def test_fr035_async_stream_reaches_the_first_client_whole() -> None:
    client = AsyncClient()
    client.cookies = signed_in_client().cookies

    async def body() -> bytes:
        response: Any = await client.post(
            "/orders/stream-async/", "{}", JSON, headers={"Idempotency-Key": "K"}
        )
        return b"".join([chunk async for chunk in response])

    assert async_to_sync(body)() == b"onetwo"


def test_fr036_large_answer_reaches_the_first_client_and_is_never_made_twice() -> None:
    first, again = twice("/short/long/")

    assert (first.content, orders()) == (LONG, 1)
    assert (again.status_code, is_omitted(again), again.content) == (200, True, b"")


def test_fr037_replay_is_the_first_answer_though_the_world_has_changed() -> None:
    client = signed_in_client()
    first = send(client, "/status/")
    Order.objects.all().delete()
    again = send(client, "/status/")

    assert (is_replay(again), again.content) == (True, first.content)


def test_fr038_only_a_replay_is_marked() -> None:
    client = signed_in_client()
    first = send(client, "/status/")
    replay = send(client, "/status/")
    mismatch = send(client, "/status/", '{"other":1}')
    change(state="in_flight")
    in_flight = send(client, "/status/")

    assert [word(each) for each in (first, replay, mismatch, in_flight)] == (
        [*ONCE, "422 key-reused", "409 in-flight"]
    )


def test_fr067_body_that_must_not_be_kept_is_nowhere_and_the_repeat_says_so() -> None:
    """FR-067: and makes no second token."""
    client = signed_in_client()
    send(client, "/token/")
    assert "S3CR3T" not in repr(IdempotencyRecord.objects.values().get())
    again = send(client, "/token/")

    assert (again.status_code, is_omitted(again), again.content) == (201, True, b"")
    assert (again.headers["X-Kind"], orders()) == ("token", 1)


@override_settings(LANGUAGE_CODE="en")
def test_replay_is_announced_in_the_language_of_the_first_answer(settings: Any) -> None:
    settings.MIDDLEWARE = [
        "django.middleware.locale.LocaleMiddleware",
        *settings.MIDDLEWARE,
    ]
    client = signed_in_client()
    first = send(client, "/language/", Accept_Language="fr")
    again = send(client, "/language/", Accept_Language="de")

    assert (again.content, again.headers["Content-Language"]) == (first.content, "fr")


@pytest.mark.parametrize(
    "kind",
    [
        *("json", "status-204", "redirect", "stream", "file"),
        *("status-503", "nothing", "missing", "error"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_fr020_no_kind_of_answer_leaves_a_record_in_flight(kind: str) -> None:
    client = signed_in_client(raise_request_exception=False)
    body_of(send(client, f"/orders/{kind}/"))
    released = kind in {"status-503", "nothing", "error"}

    assert states() == (
        [] if kind == "missing" else ["released"] if released else ["kept"]
    )


def test_replay_is_counted_with_the_database_s_time() -> None:
    words(signed_in_client(), "/status/", times=3)
    replayed_at = record().last_replayed_at

    assert (record().replays, replayed_at is not None) == (2, True)
    assert abs(replayed_at - timezone.now()) < timedelta(minutes=5)  # type: ignore[operator]


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
    twice("/status/")

    assert IdempotencyRecord.objects.get().replays == 0


MEDDLED = {
    "no-text": [[":_reason_phrase", 5], [":csp_nonce", None]],
    "no-json": [[":_csp_config", "{"], [":_charset", "utf-8"]],
    "other-types": [[":_csp_config", "5"], [":xframe_options_exempt", '"yes"']],
    "newlines": [[":_reason_phrase", '"a\\nb"'], [":csp_nonce", "a\nb"]],
    "unknown": [[":of_a_later_version", "?"], [":closed", "true"], [":refused", "500"]],
}


@cases("extras", MEDDLED)
def test_what_is_remembered_beside_the_answer_does_no_harm_if_it_cannot_be_read(
    extras: list[Any],
) -> None:
    client = signed_in_client()
    first = send(client, "/status/")
    change(response_headers=[*record().response_headers, *extras])  # type: ignore[misc]
    again = send(client, "/status/")

    assert (word(again), again.content) == ("201 replayed", first.content)
    assert again.reason_phrase == first.reason_phrase


UNREADABLE: dict[str, dict[str, Any]] = {
    "number": {"response_headers": 5},
    "text": {"response_headers": "text"},
    "object": {"response_headers": {"X-Name": "a"}},
    "one-part": {"response_headers": [["X-Name"]]},
    "three-parts": {"response_headers": [["X-Name", "1", "2"]]},
    "newline-in-a-value": {"response_headers": [["X-Name", "a\nSet-Cookie: b"]]},
    "newline-in-a-name": {"response_headers": [["X\nName", "a"]]},
    "non-ascii-name": {"response_headers": [["Náme", "a"]]},
    "null-pair": {"response_headers": [None]},
    **{f"{each}": {"response_status": each} for each in (0, 42, 99, 600, 30_000)},
}


@cases("columns", UNREADABLE)
def test_fr017_stored_answer_that_cannot_be_read_is_neither_run_again_nor_an_error(
    columns: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    client = signed_in_client()
    send(client, "/status/")
    change(**columns)
    answer = word(send(client, "/status/"))

    assert (answer, orders()) == ("409 answer-unavailable", 1)
    assert "ERROR" in [record.levelname for record in caplog.records]
