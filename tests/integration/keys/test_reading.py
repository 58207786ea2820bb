"""A view reads what it would read without us, and is refused what it would be refused."""

import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from django.core.asgi import get_asgi_application
from django.core.files.uploadedfile import TemporaryUploadedFile
from django.core.files.uploadhandler import TemporaryFileUploadHandler
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from rest_framework.decorators import api_view
from rest_framework.permissions import IsAdminUser
from rest_framework.request import Request
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support import multipart_bodies as multipart
from tests.support.cases import cases
from tests.support.client import new_key
from tests.support.ordering import (
    FORM,
    JSON,
    forgiving_client,
    send,
    word,
    words,
)
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

LIMIT = 1_000
PARTS = multipart.content_type()


def _files(request: Any) -> dict[str, Any]:
    return {name: [file.name, file.size] for name, file in request.FILES.items()}


def _with_own_handlers(request: Any) -> dict[str, Any]:
    request.upload_handlers = [TemporaryFileUploadHandler(request)]
    return {
        **_files(request),
        "kinds": sorted({type(each).__name__ for each in request.FILES.values()}),
    }


def _in_pieces(request: Any) -> list[Any]:
    pieces = list(iter(lambda: request.read(100), b""))
    return [len(pieces), b"".join(pieces).hex()]


READS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda request: None,
    "body": lambda request: request.body.hex(),
    "post": lambda request: sorted(map(list, request.POST.lists())),
    "files": _files,
    "own-handlers": _with_own_handlers,
    "stream": _in_pieces,
    "lines": lambda request: [line.hex() for line in request],
    # Of REST framework's; without it a view has no data.
    "data": lambda request: repr(getattr(request, "data", None)),
}


def view(request: Any, read: str) -> HttpResponse:
    content = READS[read](request)
    Order.objects.create()
    return JsonResponse({"read": content}, status=201)


class Bare(APIView):
    def post(self, request: Request, read: str) -> HttpResponse:
        return view(request, read)

    put = post


class Mixin(IdempotencyMixin, Bare):
    idempotency_policy = IdempotencyPolicy(required=False)


class Forbidden(Mixin):
    permission_classes = [IsAdminUser]


async def async_view(request: HttpRequest, read: str) -> HttpResponse:
    return JsonResponse({"read": READS[read](request)}, status=201)


@csrf_exempt
def handlers_first(request: HttpRequest) -> HttpResponse:
    """As Django's manual has it: before its CSRF check, which parses the form."""
    request.upload_handlers.insert(0, TemporaryFileUploadHandler(request))
    return handlers_set(request)


@csrf_protect
@idempotent
def handlers_set(request: HttpRequest) -> HttpResponse:
    assert isinstance(request.FILES["f"], TemporaryUploadedFile)
    return HttpResponse(status=201)


leased: Any = idempotent(required=False, lease=timedelta(minutes=1))
own_fingerprint: Any = idempotent(fingerprint=lambda request: "same")
optional = idempotent(required=False)(view)
methods = api_view(["POST", "PUT"])
KINDS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "plain": (csrf_exempt(view), csrf_exempt(optional)),
    "below": (methods(view), methods(optional)),
    "mixin": (Bare.as_view(), Mixin.as_view()),
}
urlpatterns = [
    *(
        path(f"{prefix}/{kind}/<read>/", either)
        for kind, pair in KINDS.items()
        for prefix, either in zip(["bare", "ours"], pair, strict=True)
    ),
    path("bare/async/<read>/", csrf_exempt(async_view)),
    path("ours/async/<read>/", csrf_exempt(leased(async_view))),
    path("forbidden/", Forbidden.as_view(), {"read": "nothing"}),
    path("handlers-first/", handlers_first),
    path("fingerprint/", csrf_exempt(own_fingerprint(view)), {"read": "nothing"}),
    path(
        "strict/",
        csrf_exempt(idempotent(max_request_body=LIMIT)(view)),
        {"read": "nothing"},
    ),
    path("required/<read>/", csrf_exempt(idempotent(view))),
]


def _upload(size: int, *more: bytes) -> bytes:
    return multipart.body(*more, multipart.file("f", b"x" * size))


CUT = _upload(100)[:-40]
BASE64 = multipart.body(
    b'Content-Disposition: form-data; name="a"\r\n'
    b"Content-Transfer-Encoding: base64\r\n\r\n!"
)
A = multipart.field("a", "é")
FIELD = multipart.field("idempotency_key", "KEY")
SIZED: dict[str, tuple[Callable[[int], bytes], str]] = {
    "json": (lambda size: b"1" * size, JSON),
    "form": (lambda size: b"a=" + b"1" * (size - 2), FORM),
    "upload": (lambda size: _upload(size), PARTS),
    "field": (lambda size: multipart.body(multipart.field("a", "1" * size)), PARTS),
    "binary": (lambda size: bytes([10, 255]) * (size // 2), "application/octet-stream"),
}
BODIES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", ""),
    "empty-json": (b"", JSON),
    "no-json": (b'{"a":', JSON),
    "not-utf-8": (b"\xff\xfe\0", JSON),
    "deep-json": (b"[" * 100_000, JSON),
    "huge-number": (b"9" * 5_000, JSON),
    "no-form": (b"%zz&%&=&\xff", FORM),
    "xml": (b"<a/>", "application/xml"),
    "no-type": (b"x", ""),
    "odd-type": (b"x", ";;;=;"),
    "other-parts": (multipart.body(b"\r\nx"), "multipart/mixed; boundary=x"),
    "parts": (multipart.body(A, A, multipart.file("f", b"\0\xff")), PARTS),
    "no-boundary": (b"x", "multipart/form-data"),
    "bad-boundary": (b"x", "multipart/form-data; boundary=\xe9"),
    "no-parts": (b"x", PARTS),
    "cut-parts": (CUT, PARTS),
    "empty-parts": (b"", PARTS),
    "base64": (BASE64, PARTS),
    "no-name": (multipart.body(b"Content-Disposition: form-data\r\n\r\nx"), PARTS),
    "too-many-parts": (multipart.body(*[A] * 20), PARTS),
    "too-many-fields": (b"a=1&" * 20, FORM),
    "key-in-form": (b"a=1&idempotency_key=KEY", FORM),
    "key-in-parts": (_upload(10, A, FIELD), PARTS),
    "key-in-upload": (_upload(3_000, A, FIELD), PARTS),
    **{
        f"{charset}-{name}": (body, f"{kind}; charset={charset}")
        for charset in ("nonsense", "utf-16", "latin-1", "hex", "idna", '""')
        for name, body, kind in [
            ("json", b'{"a":1}', JSON),
            ("form", b"a=%E9&b=1", FORM),
            ("parts", multipart.body(A, multipart.file("f", b"x")), PARTS),
            ("text", b"x", "text/plain"),
        ]
    },
    **{
        f"{size}-{name}": (make(size), kind)
        for size in (LIMIT - 1, LIMIT, LIMIT + 1, 20_000)
        for name, (make, kind) in SIZED.items()
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def low_limits() -> Iterator[None]:
    with override_settings(
        DATA_UPLOAD_MAX_MEMORY_SIZE=LIMIT,
        FILE_UPLOAD_MAX_MEMORY_SIZE=LIMIT,
        DATA_UPLOAD_MAX_NUMBER_FIELDS=10,
    ):
        yield


def seen(response: Any) -> tuple[int, bytes]:
    """The status, and what the view read; Django's own pages name the path."""
    is_page = response.headers["Content-Type"].startswith("text/html")
    return response.status_code, b"" if is_page else response.content


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", KINDS)
def test_view_reads_and_is_refused_as_without_us(
    kind: str, read: str, method: str
) -> None:
    """Whatever it is sent and reads of that, with a key and without."""
    client = forgiving_client()
    differing = {}
    for name, (body, content_type) in BODIES.items():
        keys = [None] if b"KEY" in body else [None, new_key()]
        body = body.replace(b"KEY", new_key().encode())
        for key in keys:
            bare, ours = (
                seen(send(client, url, body, content_type, key=key, method=method))
                for url in (f"/{which}/{kind}/{read}/" for which in ("bare", "ours"))
            )
            if ours != bare:
                differing[name, bool(key)] = (bare, ours)
    assert differing == {}


def sent_in_chunks(
    url: str, body: bytes, content_type: str, key: str | None = None
) -> tuple[int, bytes]:
    """Send it through ASGI, so that nobody knows its length before it is there."""

    async def exchange() -> tuple[int, bytes]:
        headers = {
            "host": "testserver",
            "content-type": content_type,
            "idempotency-key": key or new_key(),
        }
        scope = {
            "type": "http",
            "method": "POST",
            "path": url,
            "query_string": b"",
            "headers": [(n.encode(), v.encode("latin-1")) for n, v in headers.items()],
        }
        communicator: Any = ApplicationCommunicator
        served = communicator(get_asgi_application(), scope)
        for start in range(0, len(body), 700):
            piece = {"body": body[start : start + 700], "more_body": True}
            await served.send_input({"type": "http.request", **piece})
        await served.send_input({"type": "http.request"})
        started = await served.receive_output(10)
        content = b""
        more = True
        while more:
            message = await served.receive_output(10)
            content += message["body"]
            more = message.get("more_body", False)
        await served.wait(10)
        return started["status"], b"" if b"<html" in content else content

    return async_to_sync(exchange)()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", [*KINDS, "async"])
def test_body_in_chunks_is_read_as_without_us(kind: str, read: str) -> None:
    bodies = {
        name: each for name, each in BODIES.items() if name.split("-")[0].isdigit()
    }
    differing = {}
    for name, (body, content_type) in bodies.items():
        bare, ours = (
            sent_in_chunks(f"/{which}/{kind}/{read}/", body, content_type)
            for which in ("bare", "ours")
        )
        if ours != bare:
            differing[name] = (bare, ours)
    assert differing == {}


@pytest.mark.django_db(transaction=True)
def test_body_in_chunks_is_refused_by_its_true_length() -> None:
    answers = [
        sent_in_chunks("/strict/", b"1" * size, JSON) for size in (LIMIT, LIMIT + 1)
    ]

    assert [status for status, _ in answers] == [201, 413]


@pytest.mark.django_db(transaction=True)
def test_uploads_in_chunks_are_compared() -> None:
    """Django takes a form of unknown length for an empty one; we don't."""
    key = new_key()
    statuses = [
        sent_in_chunks("/required/nothing/", _upload(size), PARTS, key)[0]
        for size in (10, 10, 11)
    ]

    assert statuses == [201, 201, 422]


# What is read before the view runs


class Counting(io.BytesIO):
    """A body on its way, and how much of it was asked for."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def refused_or_taken(url: str, body: bytes, content_type: str, **headers: str) -> Any:
    """The word of the answer, and the bytes that were read for it."""
    stream = Counting(body)
    extra: Any = {
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": content_type,
        "wsgi.input": stream,
    }
    response = forgiving_client().generic("POST", url, headers=headers, **extra)
    return word(response), stream.taken


BIG = b"1" * (LIMIT + 1)
KEYED = {"Idempotency-Key": "k"}
limited = override_settings(IDEMPOTENCY_MAX_REQUEST_BODY=LIMIT)


@limited
@cases(
    "url, body, content_type, headers, answer",
    {
        "setting": ("/ours/plain/nothing/", BIG, JSON, KEYED, "413 body-too-large"),
        "below": ("/ours/below/nothing/", BIG, JSON, KEYED, "413 body-too-large"),
        "mixin": ("/ours/mixin/nothing/", BIG, JSON, KEYED, "413 body-too-large"),
        "any-type": ("/ours/mixin/nothing/", BIG, "a/b", KEYED, "413 body-too-large"),
        "form-without-header": ("/ours/plain/nothing/", BIG, FORM, {}, "413 body-too-large"),
        "endpoint": ("/strict/", BIG, JSON, KEYED, "413 body-too-large"),
        "upload": ("/strict/", _upload(LIMIT), PARTS, KEYED, "413 body-too-large"),
        "bad-key": ("/ours/plain/nothing/", BIG[1:], JSON, {"Idempotency-Key": ""}, "400 key-invalid"),
        "no-key": ("/ours/plain/nothing/", BIG, JSON, {}, "201"),
        "no-key-mixin": ("/ours/mixin/nothing/", BIG, JSON, {}, "201"),
        "no-key-below": ("/ours/below/nothing/", BIG, JSON, {}, "201"),
        "key-missing": ("/required/nothing/", BIG, JSON, {}, "400 key-missing"),
        "forbidden": ("/forbidden/", BIG[1:], JSON, KEYED, "403"),
    },
)  # fmt: skip
def test_nothing_is_read(
    url: str, body: bytes, content_type: str, headers: dict[str, str], answer: str
) -> None:
    assert refused_or_taken(url, body, content_type, **headers) == (answer, 0)


def test_guessable_key_of_a_guest_is_refused_unread() -> None:
    stream = Counting(b"1" * LIMIT)
    extra: Any = {"CONTENT_LENGTH": str(LIMIT), "wsgi.input": stream}
    response = Client().post(
        "/required/nothing/", content_type=JSON, headers=KEYED, **extra
    )

    assert (word(response), stream.taken) == ("400 key-invalid", 0)


@limited
@cases(
    "url, body, content_type",
    {
        "limit": ("/ours/plain/nothing/", BIG[1:], JSON),
        "upload": ("/ours/plain/files/", _upload(10 * LIMIT), PARTS),
        "fingerprint": ("/fingerprint/", BIG, JSON),
    },
)
def test_body_that_may_be_read_is_carried_out_once(
    url: str, body: bytes, content_type: str
) -> None:
    """An upload isn't limited, and the length is no matter to a fingerprint of one's own."""
    client = forgiving_client()
    assert words(client, url, body, content_type) == ["201", "201 replayed"]


@override_settings(IDEMPOTENCY_MAX_REQUEST_BODY=None)
def test_limit_can_be_lifted() -> None:
    body = b"1" * (26 * 1024 * 1024)
    assert words(forgiving_client(), "/required/nothing/", body) == [
        "201",
        "201 replayed",
    ]


def test_handlers_may_be_set_before_a_csrf_check() -> None:
    client = forgiving_client(enforce_csrf_checks=True)
    client.cookies["csrftoken"] = token = "t" * 32
    csrf = multipart.field("csrfmiddlewaretoken", token)
    body = _upload(10, csrf, FIELD.replace(b"KEY", new_key().encode()))

    answers = words(client, "/handlers-first/", body, PARTS, key=None)
    assert answers == ["201", "201 replayed"]


# What a parser refuses


@pytest.mark.parametrize("kind", ["below", "mixin"])
@cases(
    "body, content_type, status",
    {
        "foreign-type": (b"<a/>", "application/xml", 415),
        "malformed": (b'{"a": ', JSON, 400),
    },
)
def test_what_a_parser_refuses_leaves_the_key_free_and_gets_no_replay(
    body: bytes, content_type: str, status: int, kind: str
) -> None:
    """FR-041: it never makes a record."""
    client, url = forgiving_client(), f"/ours/{kind}/data/"
    refused = send(client, url, body, content_type)

    assert (word(refused), IdempotencyRecord.objects.count()) == (f"{status}", 0)
    assert words(client, url) == ["201", "201 replayed"]
    assert word(send(client, url, body, content_type)) == "422 key-reused"
    assert word(send(client, url)) == "201 replayed"
