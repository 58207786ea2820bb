import io
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import RequestFactory, override_settings

from django_idempotency.core.fingerprints import canonical_bytes
from django_idempotency.http.bodies import _content_length as content_length
from django_idempotency.http.bodies import canonical_payload, hold_body, media_type
from tests.support import multipart_bodies as multipart
from tests.support.cases import cases

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain"
LIMIT = 100
small_limit = override_settings(
    DATA_UPLOAD_MAX_MEMORY_SIZE=LIMIT, FILE_UPLOAD_MAX_MEMORY_SIZE=LIMIT
)


def request_of(body: bytes, content_type: str, method: str = "POST") -> HttpRequest:
    return RequestFactory().generic(method, "/", body, content_type)


def compared(body: bytes, content_type: str, method: str = "POST") -> HttpRequest:
    """A request as its view gets it: its payload has been compared before."""
    request = request_of(body, content_type, method)
    hold_body(request)
    canonical_payload(request, ())
    return request


def payload_of(
    body: bytes, content_type: str, method: str = "POST", exclude: tuple[str, ...] = ()
) -> bytes:
    request = request_of(body, content_type, method)
    hold_body(request)
    return b"".join(canonical_payload(request, exclude))


def multipart_payload(
    *parts: bytes,
    boundary: str = "x",
    method: str = "POST",
    exclude: tuple[str, ...] = (),
) -> bytes:
    body = multipart.body(*parts, boundary=boundary)
    return payload_of(body, multipart.content_type(boundary), method, exclude)


PARSED_OR_NOT = pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
UNPARSED = pytest.mark.parametrize("method", ["PUT", "PATCH"])


@small_limit
def test_body_over_the_limit_can_be_read_on_after_the_fingerprint() -> None:
    request = request_of(b"0123456789" * 100, TEXT)
    hold_body(request)
    start = request.read(15)
    canonical_payload(request, ())

    assert start + request.read() == b"0123456789" * 100


@small_limit
@cases(
    "other, equal",
    {
        "copy": (b"x" * 1_000, True),
        "last-byte": (b"x" * 999 + b"y", False),
        "longer": (b"x" * 1_001, False),
    },
)
def test_bodies_over_the_limit_are_compared(other: bytes, equal: bool) -> None:
    same = payload_of(b"x" * 1_000, TEXT) == payload_of(other, TEXT)

    assert same is equal


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None)
def test_without_a_limit_the_body_is_there_for_the_view() -> None:
    assert len(compared(b"x" * 3_000_000, TEXT).body) == 3_000_000


@pytest.mark.parametrize("length", ["", "-1"])
def test_odd_content_length_does_not_raise(length: str) -> None:
    request = request_of(b"x", TEXT)
    request.META["CONTENT_LENGTH"] = length
    hold_body(request)

    assert canonical_payload(request, ())[0] == b"raw:"


@pytest.mark.parametrize("length", ["1, 1", "one"])
def test_content_length_that_is_no_number_is_no_length(length: str) -> None:
    """As for Django's handlers; its `body` is stricter before 6.1."""
    request = request_of(b"x", TEXT)
    request.META["CONTENT_LENGTH"] = length

    assert content_length(request) == 0


def test_body_that_middleware_has_read_is_used() -> None:
    request = request_of(b"x", TEXT)
    request.body  # noqa: B018 - as middleware does
    hold_body(request)

    assert canonical_payload(request, ()) == canonical_bytes(b"x")


@cases(
    "content_type, prefix",
    {
        "json": (JSON, b"json:"),
        "json-charset": ("Application/JSON; charset=UTF-8", b"json:"),
        "json-suffix": ("application/vnd.api+json", b"json:"),
        "form": (FORM, b"pairs:"),
        "text": (TEXT, b"raw:"),
        "json-by-half": ("application/jsonlines", b"raw:"),
        "none": ("", b"raw:"),
        "no-type": ("; charset=x", b"raw:"),
        "other-multipart": ("multipart/mixed; boundary=x", b"raw:"),
    },
)
def test_media_type_says_how_body_is_compared(content_type: str, prefix: bytes) -> None:
    assert payload_of(b"1", content_type).startswith(prefix)


@cases(
    "one, other, equal",
    {
        "charset": (JSON, f"{JSON}; charset=utf-8", True),
        "charset-spelt-otherwise": (JSON, f"{JSON}; charset=UTF8", True),
        "charset-that-nobody-knows": (JSON, f"{JSON}; charset=nonsense", True),
        "another-charset": (JSON, f"{JSON}; charset=latin-1", False),
        "charset-of-a-form": (FORM, f"{FORM}; charset=latin-1", False),
        "case": (JSON, "APPLICATION/JSON", True),
        "type": (JSON, TEXT, False),
        "parameter": (JSON, f"{JSON}; version=2", False),
        "order": (f"{TEXT}; a=1; b=2", f"{TEXT}; b=2; a=1", True),
        "boundary": (multipart.content_type("x"), multipart.content_type("y"), True),
    },
)
def test_media_types_are_compared_by_meaning(one: str, other: str, equal: bool) -> None:
    same = media_type(request_of(b"x", one)) == media_type(request_of(b"x", other))

    assert same is equal


@PARSED_OR_NOT
@pytest.mark.parametrize(
    "fields", [b"csrfmiddlewaretoken=m4sk3d&", b"idempotency_key=k&"]
)
def test_field_of_one_rendering_does_not_count(fields: bytes, method: str) -> None:
    assert payload_of(fields + b"a=1", FORM, method) == payload_of(b"a=1", FORM, method)


@override_settings(IDEMPOTENCY_FIELD="token")
def test_configured_field_of_the_key_does_not_count() -> None:
    assert payload_of(b"token=k&a=1", FORM) == payload_of(b"a=1", FORM)


@override_settings(DATA_UPLOAD_MAX_NUMBER_FIELDS=2)
@UNPARSED
def test_unparsed_form_with_too_many_fields_counts_as_bytes(method: str) -> None:
    assert payload_of(b"a=1&b=2&c=3", FORM, method) == b"raw:a=1&b=2&c=3"


A, B = multipart.field("a", "1"), multipart.field("b", "2")
RAW = b"bytes\0\xff"
FILE = multipart.file("f", RAW)


@PARSED_OR_NOT
@cases(
    "parts, equal",
    {
        "same": ([A, B, FILE], True),
        "order-of-names": ([B, FILE, A], True),
        "csrf": ([A, B, multipart.field("csrfmiddlewaretoken", "x"), FILE], True),
        "field-less": ([A, FILE], False),
        "file-less": ([A, B], False),
        "file-twice": ([A, B, FILE, FILE], False),
        "changed-byte": ([A, B, multipart.file("f", b"bytes\0\xfe")], False),
        "file-name": ([A, B, multipart.file("f", RAW, filename="b.txt")], False),
        "file-type": ([A, B, multipart.file("f", RAW, content_type="a/b")], False),
        "file-charset": (
            [A, B, multipart.file("f", RAW, content_type=f"{TEXT}; charset=latin-1")],
            False,
        ),
        "name-of-the-part": ([A, B, multipart.file("g", RAW)], False),
        "field-not-file": ([A, B, multipart.field("f", RAW)], False),
    },
)
def test_multipart_is_compared_by_its_parts(
    parts: list[bytes], equal: bool, method: str
) -> None:
    first = multipart_payload(A, B, FILE, method=method)
    second = multipart_payload(*parts, boundary="another", method=method)

    assert (first == second) is equal


@PARSED_OR_NOT
def test_parts_of_one_name_keep_their_order(method: str) -> None:
    one, other = multipart.field("a", "1"), multipart.field("a", "2")

    assert multipart_payload(one, other, method=method) != multipart_payload(
        other, one, method=method
    )


@PARSED_OR_NOT
@pytest.mark.parametrize("part", [A, multipart.file("a", b"x")], ids=["field", "file"])
def test_excluded_part_does_not_count(part: bytes, method: str) -> None:
    with_it = multipart_payload(part, B, method=method, exclude=("a",))

    assert with_it == multipart_payload(B, method=method)


class _Counting(io.BytesIO):
    """A stream that knows the largest piece that was asked of it."""

    largest = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.largest = max(self.largest, len(data))
        return data


@small_limit
def test_body_over_the_limit_is_not_read_in_one_piece() -> None:
    request: Any = request_of(b"x" * 1_000_000, TEXT)
    source = request._stream = _Counting(b"x" * 1_000_000)
    hold_body(request)
    canonical_payload(request, ())

    assert source.largest < 100_000
