from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest
from django.test import RequestFactory, override_settings

from django_idempotency.bodies import _content_length as content_length
from django_idempotency.bodies import canonical_payload, hold_body, media_type
from django_idempotency.fingerprints import canonical_bytes
from tests.unit import multipart_bodies as multipart

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
TEXT = "text/plain"
LIMIT = 100
small_limit = override_settings(
    DATA_UPLOAD_MAX_MEMORY_SIZE=LIMIT, FILE_UPLOAD_MAX_MEMORY_SIZE=LIMIT
)


def request_of(body: bytes, content_type: str, method: str = "POST") -> HttpRequest:
    return RequestFactory().generic(method, "/", body, content_type)


def payload_of(
    body: bytes, content_type: str, method: str = "POST", exclude: tuple[str, ...] = ()
) -> bytes:
    request = request_of(body, content_type, method)
    hold_body(request)
    return canonical_payload(request, exclude)


def multipart_payload(
    *parts: bytes,
    boundary: str = "x",
    method: str = "POST",
    exclude: tuple[str, ...] = (),
) -> bytes:
    body = multipart.body(*parts, boundary=boundary)
    return payload_of(body, multipart.content_type(boundary), method, exclude)


METHODS = pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])


@METHODS
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b'{"a": 1}', JSON, id="json"),
        pytest.param(b"a=1", FORM, id="form"),
        pytest.param(b"\0\xff", TEXT, id="bytes"),
        pytest.param(b"", TEXT, id="empty"),
    ],
)
def test_body_is_there_for_the_view(
    body: bytes, content_type: str, method: str
) -> None:
    request = request_of(body, content_type, method)
    hold_body(request)
    canonical_payload(request, ())

    assert request.body == body


@METHODS
@small_limit
@pytest.mark.parametrize("size", [LIMIT + 1, 200_000])
def test_body_over_the_limit_can_be_streamed_by_the_view(
    size: int, method: str
) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    request = request_of(body, "application/octet-stream", method)
    hold_body(request)
    canonical_payload(request, ())

    assert request.read() == body


@small_limit
def test_body_over_the_limit_can_be_read_in_lines() -> None:
    request = request_of(b"one\ntwo\n" * 100, TEXT)
    hold_body(request)
    canonical_payload(request, ())

    assert list(request) == [b"one\n", b"two\n"] * 100


@small_limit
def test_body_over_the_limit_can_be_read_on_after_the_fingerprint() -> None:
    request = request_of(b"0123456789" * 100, TEXT)
    hold_body(request)
    start = request.read(15)
    canonical_payload(request, ())

    assert start + request.read() == b"0123456789" * 100


@small_limit
def test_body_over_the_limit_is_refused_as_a_whole_as_without_us() -> None:
    request = request_of(b"x" * (LIMIT + 1), TEXT)
    hold_body(request)
    canonical_payload(request, ())

    with pytest.raises(RequestDataTooBig):
        request.body  # noqa: B018


@small_limit
@pytest.mark.parametrize(
    ("other", "equal"),
    [
        pytest.param(b"x" * 1_000, True, id="copy"),
        pytest.param(b"x" * 999 + b"y", False, id="last-byte"),
        pytest.param(b"x" * 1_001, False, id="longer"),
    ],
)
def test_bodies_over_the_limit_are_compared(other: bytes, equal: bool) -> None:
    same = payload_of(b"x" * 1_000, TEXT) == payload_of(other, TEXT)

    assert same is equal


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=None)
def test_without_a_limit_the_body_is_there_for_the_view() -> None:
    request = request_of(b"x" * 3_000_000, TEXT)
    hold_body(request)
    canonical_payload(request, ())

    assert len(request.body) == 3_000_000


@pytest.mark.parametrize("length", ["", "-1"])
def test_odd_content_length_does_not_raise(length: str) -> None:
    request = request_of(b"x", TEXT)
    request.META["CONTENT_LENGTH"] = length
    hold_body(request)

    assert canonical_payload(request, ()).startswith(b"raw:")


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


@pytest.mark.parametrize(
    ("content_type", "prefix"),
    [
        pytest.param(JSON, b"json:", id="json"),
        pytest.param("Application/JSON; charset=UTF-8", b"json:", id="json-charset"),
        pytest.param("application/vnd.api+json", b"json:", id="json-suffix"),
        pytest.param(FORM, b"pairs:", id="form"),
        pytest.param(TEXT, b"raw:", id="text"),
        pytest.param("application/jsonlines", b"raw:", id="json-by-half"),
        pytest.param("", b"raw:", id="none"),
        pytest.param("; charset=x", b"raw:", id="no-type"),
        pytest.param("multipart/mixed; boundary=x", b"raw:", id="other-multipart"),
    ],
)
def test_media_type_says_how_the_body_is_compared(
    content_type: str, prefix: bytes
) -> None:
    assert payload_of(b"1", content_type).startswith(prefix)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        pytest.param(JSON, f"{JSON}; charset=utf-8", True, id="charset"),
        pytest.param(JSON, "APPLICATION/JSON", True, id="case"),
        pytest.param(JSON, TEXT, False, id="type"),
        pytest.param(JSON, f"{JSON}; version=2", False, id="parameter"),
        pytest.param(f"{TEXT}; a=1; b=2", f"{TEXT}; b=2; a=1", True, id="order"),
        pytest.param("multipart/form-data; boundary=x", "multipart/form-data; "
            "boundary=y", True, id="boundary"),
    ],
)  # fmt: skip
def test_media_types_are_compared_without_what_says_nothing(
    one: str, other: str, equal: bool
) -> None:
    same = media_type(request_of(b"x", one)) == media_type(request_of(b"x", other))

    assert same is equal


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(b"csrfmiddlewaretoken=m4sk3d&", id="csrf-token"),
        pytest.param(b"idempotency_key=k&", id="key"),
    ],
)
def test_field_made_anew_with_each_rendering_does_not_count(
    fields: bytes, method: str
) -> None:
    assert payload_of(fields + b"a=1", FORM, method) == payload_of(b"a=1", FORM, method)


@override_settings(IDEMPOTENCY_FIELD="token")
def test_configured_field_of_the_key_does_not_count() -> None:
    assert payload_of(b"token=k&a=1", FORM) == payload_of(b"a=1", FORM)


@override_settings(DATA_UPLOAD_MAX_NUMBER_FIELDS=2)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_form_with_too_many_fields_that_django_does_not_parse_counts_as_bytes(
    method: str,
) -> None:
    assert payload_of(b"a=1&b=2&c=3", FORM, method) == canonical_bytes(b"a=1&b=2&c=3")


MULTIPART_METHODS = pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
A, B = multipart.field("a", "1"), multipart.field("b", "2")
FILE = multipart.file("f", b"bytes\0\xff")


@MULTIPART_METHODS
@pytest.mark.parametrize(
    ("parts", "equal"),
    [
        pytest.param([A, B, FILE], True, id="same"),
        pytest.param([B, FILE, A], True, id="order-of-names"),
        pytest.param(
            [A, B, multipart.field("csrfmiddlewaretoken", "x"), FILE], True, id="csrf"
        ),
        pytest.param([A, FILE], False, id="field-less"),
        pytest.param([A, B], False, id="file-less"),
        pytest.param([A, B, FILE, FILE], False, id="file-twice"),
        pytest.param(
            [A, B, multipart.file("f", b"bytes\0\xfe")], False, id="changed-byte"
        ),
        pytest.param(
            [A, B, multipart.file("f", b"bytes\0\xff", filename="b.txt")],
            False,
            id="file-name",
        ),
        pytest.param(
            [A, B, multipart.file("f", b"bytes\0\xff", content_type="image/png")],
            False,
            id="file-type",
        ),
        pytest.param(
            [A, B, multipart.file("g", b"bytes\0\xff")], False, id="name-of-the-part"
        ),
        pytest.param(
            [A, B, multipart.field("f", b"bytes\0\xff")], False, id="field-not-file"
        ),
    ],
)
def test_multipart_is_compared_by_its_parts(
    parts: list[bytes], equal: bool, method: str
) -> None:
    first = multipart_payload(A, B, FILE, method=method)
    second = multipart_payload(*parts, boundary="another", method=method)

    assert (first == second) is equal


@MULTIPART_METHODS
def test_parts_of_one_name_keep_their_order(method: str) -> None:
    one, other = multipart.field("a", "1"), multipart.field("a", "2")

    assert multipart_payload(one, other, method=method) != multipart_payload(
        other, one, method=method
    )


@MULTIPART_METHODS
@pytest.mark.parametrize("part", [A, multipart.file("a", b"x")], ids=["field", "file"])
def test_excluded_part_does_not_count(part: bytes, method: str) -> None:
    with_it = multipart_payload(part, B, method=method, exclude=("a",))

    assert with_it == multipart_payload(B, method=method)


@pytest.mark.parametrize("size", [10, 200_000], ids=["in-memory", "on-disk"])
@small_limit
def test_upload_is_there_for_the_view(size: int) -> None:
    content = b"\0\xff" * (size // 2)
    body = multipart.body(multipart.file("f", content))
    request = request_of(body, multipart.content_type())
    hold_body(request)
    canonical_payload(request, ())
    upload = request.FILES["f"]

    assert isinstance(upload, UploadedFile)
    assert upload.read() == content
    request.close()


@pytest.mark.parametrize("size", [10, 200_000], ids=["in-memory", "on-disk"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@small_limit
def test_multipart_that_django_does_not_parse_is_there_for_the_view(
    method: str, size: int
) -> None:
    body = multipart.body(multipart.file("f", b"\0\xff" * (size // 2)))
    request = request_of(body, multipart.content_type(), method)
    hold_body(request)
    canonical_payload(request, ())

    assert request.read() == body


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"no parts", "multipart/form-data", id="no-boundary"),
        pytest.param(b"no parts", "multipart/form-data; boundary=é", id="bad-boundary"),
        pytest.param(b"no parts", multipart.content_type(), id="no-parts"),
        pytest.param(multipart.body(FILE)[:-30], multipart.content_type(), id="cut"),
        pytest.param(b"", multipart.content_type(), id="empty"),
        pytest.param(b"\0" * 300, multipart.content_type(), id="nuls"),
        pytest.param(
            multipart.body(
                b'Content-Disposition: form-data; name="a"\r\n'
                b"Content-Transfer-Encoding: base64\r\n\r\n!"
            ),
            multipart.content_type(),
            id="bad-base64",
        ),
    ],
)
@pytest.mark.parametrize("limit", [LIMIT, 10], ids=["within", "over-the-limit"])
def test_broken_multipart_that_django_does_not_parse_is_left_to_the_view(
    body: bytes, content_type: str, method: str, limit: int
) -> None:
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=limit):
        request = request_of(body, content_type, method)
        hold_body(request)
        canonical_payload(request, ())

        assert request.read() == body


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize(
    "limits",
    [
        pytest.param({"DATA_UPLOAD_MAX_NUMBER_FIELDS": 1}, id="fields"),
        pytest.param({"DATA_UPLOAD_MAX_NUMBER_FILES": 1}, id="files"),
    ],
)
def test_multipart_with_too_many_parts_that_django_does_not_parse_is_left_to_the_view(
    limits: dict[str, Any], method: str
) -> None:
    body = multipart.body(A, B, FILE, multipart.file("g", b""))
    with override_settings(**limits):
        request = request_of(body, multipart.content_type(), method)
        hold_body(request)
        canonical_payload(request, ())

        assert request.read() == body


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
