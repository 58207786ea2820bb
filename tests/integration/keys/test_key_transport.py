"""How a key reaches a view: FR-055, FR-056, FR-057, FR-058, FR-059, FR-060, FR-061."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from rest_framework.decorators import api_view

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support import multipart_bodies as multipart
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
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
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@api_view(["POST", "PATCH", "PUT", "DELETE"])
@idempotent
def place_order_by_rest(request: Any) -> HttpResponse:
    return place_order(request)


@idempotent
def place_or_count_orders(request: HttpRequest, **route: str) -> HttpResponse:
    if request.method in {"GET", "HEAD", "OPTIONS", "TRACE", "REPORT"}:
        return JsonResponse({"orders": Order.objects.count()})
    return place_order(request)


urlpatterns = [
    path("orders/", place_or_count_orders),
    path("optional/", idempotent(required=False)(place_order)),
    path("rest/", place_order_by_rest),
    path("<path:anything>/", place_or_count_orders),
]

PLAIN_AND_REST = pytest.mark.parametrize("url", ["/orders/", "/rest/"])


def send_by_asgi(client: Client, url: str, *, key: str) -> Any:
    """Send the same through ASGI, with the sign-in of the other client."""
    asgi = AsyncClient()
    asgi.cookies = client.cookies
    return async_to_sync(asgi.post)(
        url, b"{}", content_type=JSON, headers={"Idempotency-Key": key}
    )


@PLAIN_AND_REST
def test_fr055_bare_and_quoted_are_one_key(url: str) -> None:
    """FR-055; how a key is read is in the tables of `tests/unit/test_keys.py`."""
    client = signed_in_client()
    send(client, url, key="abc")

    assert (word(send(client, url, key=' "abc"')), orders()) == ("201 replayed", 1)


@pytest.mark.parametrize("key", ["k" * 255, '"a,b"'], ids=["longest", "quoted"])
@pytest.mark.parametrize("url", ["/orders/", f"/{'x' * 60_000}/", f"/{'é' * 9_000}/"])
def test_fr056_key_up_to_the_limit_works_with_any_path(key: str, url: str) -> None:
    assert words(signed_in_client(), url, key=key) == ONCE


def test_fr056_longer_key_is_refused_before_any_query(
    django_assert_num_queries: Any,
) -> None:
    with django_assert_num_queries(0):
        assert word(send(Client(), key="k" * 256)) == "400 key-invalid"


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
odd_keys = cases("key", ODD_KEYS)


@pytest.mark.parametrize("url", ["/orders/", "/optional/", "/rest/"])
@pytest.mark.parametrize("key", ["a\0b", '"abc', "a,b", "", '""'], ids=repr)
def test_key_that_cannot_be_used_is_refused(url: str, key: str) -> None:
    """FR-055: broken quoting; FR-057: odd characters; FR-058: present but empty."""
    answer = word(send(signed_in_client(), url, key=key))

    assert (answer, orders()) == ("400 key-invalid", 0)


@odd_keys
@pytest.mark.django_db(transaction=True)
def test_fr057_odd_key_is_refused_over_asgi(key: str) -> None:
    answer = word(send_by_asgi(signed_in_client(), "/orders/", key=key))

    assert (answer, orders()) == ("400 key-invalid", 0)


@odd_keys
def test_fr057_odd_key_is_neither_in_the_answer_nor_in_logs(
    key: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        response = send(signed_in_client(), key=key)

    assert key not in response.content.decode() + str(response.headers)
    assert all(line.isprintable() for line in caplog.text.splitlines())


@pytest.mark.django_db(transaction=True)
def test_one_key_over_wsgi_and_asgi_is_one_operation() -> None:
    client = signed_in_client()
    first = send(client, key="abc")
    second = send_by_asgi(client, "/orders/", key='"abc"')

    assert (is_replay(second), second.content, orders()) == (True, first.content, 1)


@pytest.mark.parametrize(
    ("url", "methods", "answer", "runs"),
    [
        ("/orders/", ["POST", "PATCH"], "400 key-missing", 0),
        ("/rest/", ["POST", "PATCH"], "400 key-missing", 0),
        ("/orders/", ["PUT", "DELETE"], "201", 4),
        ("/rest/", ["PUT", "DELETE"], "201", 4),
        ("/optional/", ["POST", "PATCH"], "201", 4),
    ],
)
def test_fr058_absent_key_is_refused_only_where_one_is_required(
    url: str, methods: list[str], answer: str, runs: int
) -> None:
    """FR-058: elsewhere it runs each time."""
    for method in methods:
        got = words(signed_in_client(), url, key=None, method=method)
        assert got == [answer] * 2
    assert (orders(), IdempotencyRecord.objects.count()) == (runs, 0)


@pytest.mark.parametrize(
    ("setting", "sent"),
    [
        *(
            ("idempotency-key", "Idempotency-Key"),
            ("IDEMPOTENCY-KEY", "idempotency-key"),
        ),
        ("X-Request-Token", "x-request-token"),
    ],
)
def test_fr059_case_of_the_header_does_not_matter(setting: str, sent: str) -> None:
    client = signed_in_client()
    with override_settings(IDEMPOTENCY_HEADER=setting):
        copies = [send(client, key=None, **{sent: "abc"}) for _ in range(2)]

    assert [word(copy) for copy in copies] == ONCE


@override_settings(IDEMPOTENCY_HEADER="X-Request-Token")
def test_fr059_only_the_configured_header_counts() -> None:
    assert word(send(signed_in_client(), key="abc")) == "400 key-missing"


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "GET", "TRACE"])
@pytest.mark.parametrize("key", [None, "abc", "", '"broken', "x" * 300], ids=repr)
def test_fr060_safe_method_never_needs_a_key_and_leaves_no_record(
    method: str, key: str | None
) -> None:
    response = send(signed_in_client(), body=b"", key=key, method=method)

    assert (response.status_code, IdempotencyRecord.objects.count()) == (200, 0)


def test_fr061_get_with_a_key_is_fresh_each_time() -> None:
    client = signed_in_client()
    before = send(client, body=b"", method="GET")
    Order.objects.create()
    after = send(client, body=b"", method="GET")

    assert (before.json(), after.json()) == ({"orders": 0}, {"orders": 1})


@PLAIN_AND_REST
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_fr061_unsafe_method_with_a_key_runs_once(url: str, method: str) -> None:
    assert (words(signed_in_client(), url, method=method), orders()) == (ONCE, 1)


@pytest.mark.parametrize("key", [None, "abc", '"broken'], ids=repr)
def test_fr061_method_that_is_not_listed_passes_untouched(key: str | None) -> None:
    response = send(signed_in_client(), key=key, method="REPORT")

    assert (response.json(), IdempotencyRecord.objects.count()) == ({"orders": 0}, 0)


def fields(key: str = "abc", *, amount: int = 1) -> tuple[bytes, str]:
    return f"amount={amount}&idempotency_key={key}".encode(), FORM


def parts(key: str = "abc", *more: bytes, amount: int = 1) -> tuple[bytes, str]:
    sent = (
        multipart.field("amount", f"{amount}"),
        multipart.field("idempotency_key", key),
    )
    return multipart.body(*sent, *more), multipart.content_type()


forms = pytest.mark.parametrize("made", [fields, parts])
FormMaker = Callable[[str], tuple[bytes, str]]
UPLOAD = multipart.file("scan", b"x" * 3_000_000)


@forms
@PLAIN_AND_REST
@pytest.mark.parametrize("key", ["abd", "", "ABC"], ids=repr)
def test_header_and_form_that_differ_are_refused(
    url: str, made: FormMaker, key: str
) -> None:
    answer = word(send(signed_in_client(), url, *made("abc"), key=key))

    assert (answer, orders()) == ("400 key-invalid", 0)


@forms
@pytest.mark.parametrize("key", ["", "a b", "%00", "x" * 256], ids=repr)
def test_key_in_a_form_is_refused_by_the_same_rules(made: FormMaker, key: str) -> None:
    body, content_type = made(key)
    if made is parts:
        body = body.replace(b"%00", b"\0")
    answer = word(send(signed_in_client(), "/optional/", body, content_type, key=None))

    assert (answer, orders()) == ("400 key-invalid", 0)


@pytest.mark.parametrize(
    ("url", "body"),
    [("/orders/", b'{"idempotency_key":"abc"}'), ("/orders/?idempotency_key=abc", b"")],
    ids=["json-member", "query-parameter"],
)
def test_only_a_form_s_field_is_a_key(url: str, body: bytes) -> None:
    assert word(send(signed_in_client(), url, body, key=None)) == "400 key-missing"


@pytest.mark.parametrize(
    ("anonymous", "key", "refusal"),
    [
        ("allow", "order-42", "400 key-invalid"),
        ("refuse", GUEST_KEY, "401 sign-in-required"),
        ("refuse", "order-42", "401 sign-in-required"),
        # Not "make a key", which would be refused again.
        ("refuse", None, "401 sign-in-required"),
        ("refuse", "", "400 key-invalid"),
    ],
)
@pytest.mark.parametrize("url", ["/orders/", "/rest/"])
def test_guest_is_refused_before_any_query(
    anonymous: str,
    url: str,
    key: str | None,
    refusal: str,
    settings: Any,
    django_assert_num_queries: Any,
) -> None:
    """For a guessable key, or where the project says so."""
    settings.IDEMPOTENCY_ANONYMOUS = anonymous
    with django_assert_num_queries(0):
        refused = send(Client(), url, key=key)

    assert word(refused) == refusal
    assert ("WWW-Authenticate" in refused.headers) is (refused.status_code == 401)


@override_settings(IDEMPOTENCY_ANONYMOUS="refuse")
def test_guest_without_a_key_is_not_refused_where_none_is_required() -> None:
    assert send(Client(), "/optional/", key=None).status_code == 201


# With PUT, PATCH and DELETE too, as scripts such as htmx send forms


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("url", ["/orders/", "/rest/"])
@cases(
    "made, other",
    {"form": (fields(), fields(amount=2)), "parts": (parts(), parts(amount=2))},
)
def test_form_sent_twice_is_carried_out_once(
    made: tuple[bytes, str], other: tuple[bytes, str], url: str, method: str
) -> None:
    client = signed_in_client()

    assert words(client, url, *made, key=None, method=method) == ONCE
    changed = send(client, url, *other, key=None, method=method)
    assert (word(changed), orders()) == ("422 key-reused", 1)
    differing = send(client, url, *made, key="abd", method=method)
    assert word(differing) == "400 key-invalid"


@pytest.mark.parametrize("url", ["/orders/", "/rest/"])
def test_large_upload_is_carried_out_once(url: str) -> None:
    body = parts("abc", UPLOAD)

    assert words(signed_in_client(), url, *body, key=None, method="PUT") == ONCE


# A header that nobody has set: Firefox sends one with every POST, new for each submission,
# where a preference is set. It must neither break a form nor replace the form's key.

OWN, NEXT = '"18446744073709551615"', '"7"'
WITH_FIELD = f"idempotency_key={GUEST_KEY}"
everywhere = pytest.mark.parametrize("url", ["/orders/", "/optional/"])


@everywhere
@pytest.mark.parametrize("is_guest", [True, False], ids=["guest", "customer"])
def test_key_of_the_form_holds(url: str, is_guest: bool) -> None:
    client = Client() if is_guest else signed_in_client()
    answers = [send(client, url, WITH_FIELD, FORM, key=own) for own in (OWN, NEXT)]

    assert [word(each) for each in answers] == ONCE
    assert orders() == 1


@pytest.mark.parametrize("body", ["amount=1", ""], ids=["form", "empty"])
def test_it_counts_as_none_from_a_guest_who_needs_no_key(body: str) -> None:
    assert words(Client(), "/optional/", body, FORM, key=OWN) == ["201", "201"]


def test_it_is_refused_from_a_guest_who_needs_a_key() -> None:
    answer = send(Client(), "/orders/", "amount=1", FORM, key=OWN)

    assert (word(answer), orders()) == ("400 key-invalid", 0)


@everywhere
def test_it_is_a_key_of_a_customer_whose_form_has_none(url: str) -> None:
    client = signed_in_client()

    assert words(client, url, "amount=1", FORM, key=OWN) == ONCE


@pytest.mark.parametrize("key", ["7", '"123456789012345678901"', '"7a"', '""'])
@everywhere
def test_another_header_that_differs_from_the_form_is_refused(
    url: str, key: str
) -> None:
    answer = send(signed_in_client(), url, WITH_FIELD, FORM, key=key)

    assert (word(answer), orders()) == ("400 key-invalid", 0)
