"""How a key reaches a view: FR-055 to FR-061."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from rest_framework.decorators import api_view

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.integration.ordering import (
    GUEST_KEY,
    JSON,
    is_replay,
    orders,
    place_order,
    problem_code,
    signed_in_client,
)
from tests.testapp.models import Order
from tests.unit import multipart_bodies as multipart

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@idempotent(required=False)
def place_order_with_or_without_key(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@api_view(["POST", "PATCH", "PUT", "DELETE", "GET", "OPTIONS"])
@idempotent
def place_order_by_rest(request: Any) -> HttpResponse:
    return place_order(request)


@idempotent
def place_or_count_orders(request: HttpRequest, **route: str) -> HttpResponse:
    if request.method in {"GET", "HEAD", "OPTIONS", "TRACE", "REPORT"}:
        return JsonResponse({"orders": Order.objects.count()})
    return place_order(request)


urlpatterns = [
    path("required/", place_or_count_orders),
    path("optional/", place_order_with_or_without_key),
    path("rest/", place_order_by_rest),
    path("<path:anything>/", place_or_count_orders),
]

PLAIN_AND_REST = pytest.mark.parametrize("url", ["/required/", "/rest/"])


def send(
    client: Client,
    url: str = "/required/",
    *,
    key: str | None,
    method: str = "POST",
    body: bytes = b"{}",
    content_type: str = JSON,
) -> ClientResponse:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.generic(method, url, body, content_type=content_type, headers=headers)


def send_by_asgi(client: Client, url: str, *, key: str) -> Any:
    """Send the same through ASGI, with the sign-in of the other client."""
    asgi = AsyncClient()
    asgi.cookies = client.cookies
    return async_to_sync(asgi.post)(
        url, b"{}", content_type=JSON, headers={"Idempotency-Key": key}
    )


@PLAIN_AND_REST
@pytest.mark.parametrize(
    "again", ["abc", '"abc"', '"abc" ', "  abc", '\t"abc"\t'], ids=repr
)
@pytest.mark.parametrize("first", ["abc", '"abc"'], ids=repr)
def test_fr055_bare_and_quoted_are_one_key(url: str, first: str, again: str) -> None:
    """FR-055."""
    client = signed_in_client()
    send(client, url, key=first)
    response = send(client, url, key=again)

    assert (response.status_code, is_replay(response), orders()) == (201, True, 1)


@pytest.mark.parametrize("key", [r'"a\"b"', r'"a\\b"', '"a,b"'])
def test_fr055_quoted_key_may_hold_what_a_bare_one_may_not(key: str) -> None:
    """FR-055."""
    client = signed_in_client()
    responses = [send(client, key=key) for _ in range(2)]

    assert [is_replay(response) for response in responses] == [False, True]


@PLAIN_AND_REST
@pytest.mark.parametrize(
    "key",
    ['"abc', 'abc"', '"a"b"', '"abc\\"', r'"a\b"', '"a", "b"', "a,b", "a\\b"],
)
def test_fr055_broken_quoting_is_refused(url: str, key: str) -> None:
    """FR-055."""
    response = send(signed_in_client(), url, key=key)

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-invalid",
        0,
    )


@pytest.mark.parametrize("length", [1, 254, 255])
@pytest.mark.parametrize("url", ["/required/", f"/{'x' * 60_000}/", f"/{'é' * 9_000}/"])
def test_fr056_key_up_to_the_limit_works_with_any_path(length: int, url: str) -> None:
    """FR-056."""
    client = signed_in_client()
    responses = [send(client, url, key="k" * length) for _ in range(2)]

    assert [is_replay(response) for response in responses] == [False, True]


@pytest.mark.parametrize("length", [256, 3_000, 20_000])
def test_fr056_longer_key_is_refused_before_any_query(
    length: int, django_assert_num_queries: Any
) -> None:
    """FR-056."""
    client = Client()
    with django_assert_num_queries(0):
        response = send(client, key="k" * length)

    assert (response.status_code, problem_code(response)) == (400, "key-invalid")


ODD_KEYS = {
    "nul": "a\0b",
    "tab": "a\tb",
    "crlf": "a\r\nSet-Cookie: x=1",
    "lf-at-the-end": "abc\n",
    "del": "a\x7fb",
    "escape": "\x1b[31mred",
    "latin-1": "caf\xe9",
    "utf-8-as-latin-1": "café".encode().decode("latin-1"),
    "emoji": "😀".encode().decode("latin-1"),
    "c1-control": "a\x85b",
}
odd_keys = pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)


@odd_keys
@PLAIN_AND_REST
def test_fr057_odd_key_is_refused_over_wsgi(url: str, key: str) -> None:
    """FR-057."""
    response = send(signed_in_client(), url, key=key)

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-invalid",
        0,
    )


@odd_keys
@PLAIN_AND_REST
@pytest.mark.django_db(transaction=True)
def test_fr057_odd_key_is_refused_over_asgi(url: str, key: str) -> None:
    """FR-057."""
    response = send_by_asgi(signed_in_client(), url, key=key)

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-invalid",
        0,
    )


@odd_keys
def test_fr057_odd_key_is_not_repeated_in_the_answer(key: str) -> None:
    """FR-057."""
    response = send(signed_in_client(), key=key)

    assert key not in response.content.decode() + str(response.headers)


@odd_keys
def test_fr057_no_control_characters_in_logs(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-057."""
    with caplog.at_level(logging.DEBUG):
        send(signed_in_client(), key=key)

    assert all(line.isprintable() for line in caplog.text.splitlines())


@pytest.mark.django_db(transaction=True)
def test_one_key_over_wsgi_and_asgi_is_one_operation() -> None:
    client = signed_in_client()
    first = send(client, key="abc")
    second = send_by_asgi(client, "/required/", key='"abc"')

    assert (is_replay(second), second.content, orders()) == (True, first.content, 1)


@pytest.mark.parametrize("key", ["", " ", "   ", '""', '"', '" "'], ids=repr)
@pytest.mark.parametrize("url", ["/required/", "/optional/", "/rest/"])
def test_fr058_key_that_is_present_but_empty_is_refused(url: str, key: str) -> None:
    """FR-058."""
    response = send(signed_in_client(), url, key=key)

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-invalid",
        0,
    )


@PLAIN_AND_REST
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_fr058_absent_key_is_refused_where_required(url: str, method: str) -> None:
    """FR-058."""
    response = send(signed_in_client(), url, key=None, method=method)

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-missing",
        0,
    )


@pytest.mark.parametrize(
    ("url", "method"),
    [
        pytest.param("/optional/", "POST", id="optional-POST"),
        pytest.param("/optional/", "PATCH", id="optional-PATCH"),
        pytest.param("/required/", "PUT", id="PUT"),
        pytest.param("/required/", "DELETE", id="DELETE"),
        pytest.param("/rest/", "PUT", id="rest-PUT"),
        pytest.param("/rest/", "DELETE", id="rest-DELETE"),
    ],
)
def test_fr058_absent_key_runs_each_time_where_it_is_not_required(
    url: str, method: str
) -> None:
    """FR-058."""
    client = signed_in_client()
    statuses = [
        send(client, url, key=None, method=method).status_code for _ in range(2)
    ]

    assert (statuses, orders(), IdempotencyRecord.objects.count()) == ([201, 201], 2, 0)


@pytest.mark.parametrize(
    ("setting", "sent"),
    [
        pytest.param("idempotency-key", "Idempotency-Key", id="lower-case"),
        pytest.param("IDEMPOTENCY-KEY", "idempotency-key", id="upper-case"),
        pytest.param("X-Request-Token", "x-request-token", id="another-name"),
    ],
)
def test_fr059_case_of_the_header_does_not_matter(setting: str, sent: str) -> None:
    """FR-059."""
    client = signed_in_client()
    with override_settings(IDEMPOTENCY_HEADER=setting):
        responses = [client.post("/required/", headers={sent: "abc"}) for _ in range(2)]

    assert [is_replay(response) for response in responses] == [False, True]


@override_settings(IDEMPOTENCY_HEADER="X-Request-Token")
def test_fr059_only_the_configured_header_counts() -> None:
    """FR-059."""
    response = send(signed_in_client(), key="abc")

    assert (response.status_code, problem_code(response)) == (400, "key-missing")


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET", "TRACE"])
@pytest.mark.parametrize("key", [None, "abc", "", '"broken', "x" * 300], ids=repr)
def test_fr060_safe_method_never_needs_a_key_and_leaves_no_record(
    method: str, key: str | None
) -> None:
    """FR-060."""
    response = send(signed_in_client(), key=key, method=method, body=b"")

    assert (response.status_code, IdempotencyRecord.objects.count()) == (200, 0)


@pytest.mark.parametrize("method", ["OPTIONS", "GET"])
def test_fr060_safe_method_of_a_rest_view_never_needs_a_key(method: str) -> None:
    """FR-060."""
    response = send(signed_in_client(), "/rest/", key=None, method=method, body=b"")

    assert (response.status_code // 100, IdempotencyRecord.objects.count()) == (2, 0)


def test_fr061_get_with_a_key_is_fresh_each_time() -> None:
    """FR-061."""
    client = signed_in_client()
    before = send(client, key="abc", method="GET", body=b"")
    Order.objects.create()
    after = send(client, key="abc", method="GET", body=b"")

    assert (before.json(), after.json()) == ({"orders": 0}, {"orders": 1})


@PLAIN_AND_REST
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_fr061_unsafe_method_with_a_key_runs_once(url: str, method: str) -> None:
    """FR-061."""
    client = signed_in_client()
    responses = [send(client, url, key="abc", method=method) for _ in range(2)]

    assert ([is_replay(each) for each in responses], orders()) == ([False, True], 1)


@pytest.mark.parametrize("key", [None, "abc", '"broken'], ids=repr)
def test_fr061_method_that_is_not_listed_passes_untouched(key: str | None) -> None:
    """FR-061."""
    response = send(signed_in_client(), key=key, method="REPORT")

    assert (response.json(), IdempotencyRecord.objects.count()) == ({"orders": 0}, 0)


FORM = "application/x-www-form-urlencoded"


def form_with(key: str) -> tuple[bytes, str]:
    return f"a=1&idempotency_key={key}".encode(), FORM


def multipart_with(key: str) -> tuple[bytes, str]:
    parts = multipart.field("a", "1"), multipart.field("idempotency_key", key)
    return multipart.body(*parts), multipart.content_type()


forms = pytest.mark.parametrize("made", [form_with, multipart_with])
FormMaker = Callable[[str], tuple[bytes, str]]


@forms
@PLAIN_AND_REST
def test_key_in_a_form_field_is_honoured(url: str, made: FormMaker) -> None:
    client = signed_in_client()
    body, content_type = made("abc")
    responses = [
        send(client, url, key=None, body=body, content_type=content_type)
        for _ in range(2)
    ]

    assert ([is_replay(each) for each in responses], orders()) == ([False, True], 1)


@forms
def test_one_key_in_header_and_form_is_one_key(made: FormMaker) -> None:
    client = signed_in_client()
    body, content_type = made("abc")
    send(client, key=None, body=body, content_type=content_type)
    response = send(client, key='"abc"', body=body, content_type=content_type)

    assert (is_replay(response), orders()) == (True, 1)


@forms
@PLAIN_AND_REST
@pytest.mark.parametrize("key", ["abd", "", "ABC"], ids=repr)
def test_header_and_form_that_differ_are_refused(
    url: str, made: FormMaker, key: str
) -> None:
    body, content_type = made("abc")
    response = send(
        signed_in_client(), url, key=key, body=body, content_type=content_type
    )

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-invalid",
        0,
    )


@forms
@pytest.mark.parametrize("key", ["", "a b", "%00", "x" * 256], ids=repr)
def test_key_in_a_form_is_refused_by_the_same_rules(made: FormMaker, key: str) -> None:
    body, content_type = made(key)
    response = send(
        signed_in_client(),
        "/optional/",
        key=None,
        body=body.replace(b"%00", b"\0") if made is multipart_with else body,
        content_type=content_type,
    )

    assert (response.status_code, problem_code(response), orders()) == (
        400,
        "key-invalid",
        0,
    )


@override_settings(IDEMPOTENCY_FIELD="token")
def test_form_field_has_the_configured_name() -> None:
    client = signed_in_client()
    responses = [
        send(client, key=None, body=b"token=abc", content_type=FORM) for _ in range(2)
    ]

    assert [is_replay(response) for response in responses] == [False, True]


def test_json_member_of_the_field_s_name_is_no_key() -> None:
    response = send(signed_in_client(), key=None, body=b'{"idempotency_key":"abc"}')

    assert problem_code(response) == "key-missing"


def test_query_parameter_of_the_field_s_name_is_no_key() -> None:
    response = send(signed_in_client(), "/required/?idempotency_key=abc", key=None)

    assert problem_code(response) == "key-missing"


def test_guest_with_an_unguessable_key_runs_once() -> None:
    responses = [send(Client(), key=GUEST_KEY) for _ in range(2)]

    assert ([is_replay(each) for each in responses], orders()) == ([False, True], 1)


@PLAIN_AND_REST
def test_guest_with_a_guessable_key_is_refused_before_any_query(
    url: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        response = send(Client(), url, key="order-42")

    assert (response.status_code, problem_code(response)) == (400, "key-invalid")


@override_settings(IDEMPOTENCY_ANONYMOUS="refuse")
def test_guest_is_refused_where_the_project_says_so(
    django_assert_num_queries: Any,
) -> None:
    with django_assert_num_queries(0):
        response = send(Client(), key=GUEST_KEY)

    assert (response.status_code, problem_code(response)) == (400, "key-invalid")


@override_settings(IDEMPOTENCY_ANONYMOUS="refuse")
def test_guest_without_a_key_is_not_refused_where_none_is_required() -> None:
    assert send(Client(), "/optional/", key=None).status_code == 201


def test_keys_of_two_customers_never_meet() -> None:
    responses = [send(signed_in_client(name), key="abc") for name in ("ann", "bob")]

    assert ([is_replay(each) for each in responses], orders()) == ([False, False], 2)
