"""Which repeats are the same request: FR-044 to FR-054 (FR-047), and FR-068's rotation."""

import json
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.request import Request

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support import multipart_bodies as multipart
from tests.support.cases import cases
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
    JSON,
    is_replay,
    orders,
    place_order,
    send,
    signed_in_client,
    word,
)
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@idempotent
def order_view(request: HttpRequest, **route: Any) -> HttpResponse:
    return place_order(request)


@api_view(["POST", "PUT", "PATCH"])
@idempotent
def rest_view(request: Request) -> HttpResponse:
    return place_order(request._request)


@idempotent
def echo_view(request: HttpRequest) -> HttpResponse:
    """Answer with the body that the view reads."""
    Order.objects.create()
    return HttpResponse(request.body, content_type="application/octet-stream")


def _amount(request: HttpRequest) -> str:
    amount: int = json.loads(request.body)["amount"]
    return f"{amount}"


urlpatterns = [
    path("orders/", order_view),
    path("orders", order_view),
    path("rest/", rest_view),
    path("orders/<int:pk>/pay/", order_view),
    path("orders/<int:pk>/cancel/", order_view),
    path("orders/<str:name>/", order_view),
    path("echo/", echo_view),
    path("excluding/", idempotent(exclude=("client_nonce", "clock"))(place_order)),
    path("misspelling/", idempotent(exclude=("client_nonze",))(place_order)),
    path("amount/", idempotent(fingerprint=_amount)(place_order)),
]


RUN, REPLAY, MISMATCH = "201", "201 replayed", "422 key-reused"
ORDERED = '{"a":1,"b":[1,2]}'
UPLOAD, OTHER_UPLOAD = (multipart.file("f", each) for each in (b"one\0", b"one\1"))


def uploaded(*parts: bytes, boundary: str = "x") -> tuple[str, bytes, str]:
    body = multipart.body(*parts, boundary=boundary)
    return "/orders/", body, multipart.content_type(boundary)


def form(amount: int, *, nonce: int) -> tuple[str, bytes, str]:
    return "/excluding/", f"amount={amount}&client_nonce={nonce}".encode(), FORM


PAID = '{"amount":1,"client_nonce":1}'
# What the request is made of; how each part is compared is in the tables of `tests/unit`.
ONE = ("/orders/", "1")
DRY, SORTED, ACUTE = "/orders/?dry=1", "/orders/?a=1&b=2", "/orders/?a=%C3%A9"
ROWS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], str]] = {
    "FR-044": (("/orders/", ORDERED), ("/orders/", '{"b": [1,2], "a": 1 }'), REPLAY),
    "FR-044-rest": (("/rest/", ORDERED), ("/rest/", '{"b": [1,2], "a": 1 }'), REPLAY),
    "FR-044-number": (("/orders/", '{"a":10}'), ("/orders/", '{"a":10.0}'), REPLAY),
    "FR-044-n": (("/rest/", ORDERED), ("/rest/", '{"a":1,"b":[2,1]}'), MISMATCH),
    "FR-045-dry-run": ((DRY,), ("/orders/",), MISMATCH),
    "FR-045-dry-run-rest": (("/rest/?dry=1",), ("/rest/",), MISMATCH),
    "FR-045": ((SORTED,), ("/orders/?b=2&a=1",), REPLAY),
    "FR-045-rest": (("/rest/?a=1&b=2",), ("/rest/?b=2&a=1",), REPLAY),
    "FR-045-utf-8": ((ACUTE,), ("/orders/?a=é",), REPLAY),
    "FR-046-type": (ONE, (*ONE, "text/plain"), MISMATCH),
    "FR-046-charset": (ONE, (*ONE, f"{JSON}; charset=utf-8"), REPLAY),
    "FR-046-other-charset": (ONE, (*ONE, f"{JSON}; charset=latin-1"), MISMATCH),
    # FR-048: the path counts as it is decoded.
    "FR-048-other-order": (("/orders/1/pay/",), ("/orders/2/pay/",), RUN),
    "FR-048-trailing-slash": (("/orders/",), ("/orders",), RUN),
    "FR-048-utf-8": (("/orders/caf%C3%A9/",), ("/orders/café/",), REPLAY),
    "FR-048-needless-escape": (("/orders/%61/",), ("/orders/a/",), REPLAY),
    "FR-048-case-of-escape": (("/orders/a%2Db/",), ("/orders/a%2db/",), REPLAY),
    "FR-048-case": (("/orders/A/",), ("/orders/a/",), RUN),
    "FR-049-boundary": (uploaded(UPLOAD), uploaded(UPLOAD, boundary="y"), REPLAY),
    "FR-049-byte": (uploaded(UPLOAD), uploaded(OTHER_UPLOAD), MISMATCH),
    **{
        f"FR-053-{url}-{name}": ((f"/{url}/", PAID), (f"/{url}/", again), outcome)
        for url, again, outcome, name in [
            ("excluding", '{"amount":1,"client_nonce":2}', REPLAY, "nonce"),
            ("excluding", '{"amount":1,"clock":2}', REPLAY, "another-one"),
            ("excluding", '{"amount":1}', REPLAY, "absent"),
            ("excluding", '{"amount":2,"client_nonce":1}', MISMATCH, "amount"),
            ("misspelling", '{"amount":1,"client_nonce":2}', MISMATCH, "nonce"),
            ("amount", '{"amount":1,"client_nonce":2}', REPLAY, "nonce"),
            ("amount", '{"amount":2}', MISMATCH, "amount"),
        ]
    },
    "FR-053-form-nonce": (form(1, nonce=1), form(1, nonce=2), REPLAY),
    "FR-053-form-amount": (form(1, nonce=1), form(2, nonce=1), MISMATCH),
}


@cases("first, again, outcome", ROWS)
def test_second_request_is_a_repeat_another_or_a_mismatch(
    first: tuple[Any, ...], again: tuple[Any, ...], outcome: str
) -> None:
    client = signed_in_client()
    send(client, *first)

    assert word(send(client, *again)) == outcome


@pytest.mark.parametrize(
    ("method", "url"),
    [
        *(("POST", "/orders/1/cancel/"), ("POST", "/rest/")),
        *((method, "/orders/") for method in ("PATCH", "PUT", "DELETE")),
    ],
)
def test_fr047_key_of_another_endpoint_or_method_runs(method: str, url: str) -> None:
    client = signed_in_client()
    send(client)

    assert (word(send(client, url, method=method)), orders()) == (RUN, 2)


def test_fr052_other_amount_is_refused_and_the_first_answer_stays_to_be_had() -> None:
    """FR-052: it is not run, and the record of the first is untouched."""
    client = signed_in_client()
    first = send(client, body='{"amount":10}')
    columns = IdempotencyRecord.objects.values()
    before = columns.get()

    assert word(send(client, body='{"amount":12}')) == MISMATCH
    history = columns.get()["history"]
    assert [note["what"] for note in history] == ["claimed", "mismatched"]
    assert (orders(), columns.get()) == (1, {**before, "history": history})
    again = send(client, body='{"amount":10}')
    assert (is_replay(again), again.content) == (True, first.content)


@pytest.mark.parametrize("value", [None, 42])
def test_fingerprint_function_must_return_text_or_bytes(value: Any) -> None:
    view = idempotent(fingerprint=lambda request: value)(place_order)
    urls = type("urls", (), {"urlpatterns": [path("view/", view)]})
    with override_settings(ROOT_URLCONF=urls), pytest.raises(TypeError):
        send(signed_in_client(), "/view/")


ODD_BODIES = {
    "duplicate-members": b'{"a":1,"a":2}',
    "nan": b'{"a":NaN}',
    "infinity": b"[Infinity,-Infinity]",
    "lone-surrogate": b'"\\ud800"',
    "a-thousand-deep": b"[" * 1_000 + b"]" * 1_000,
    "a-hundred-thousand-open": b"[" * 100_000,
    "invalid": b'{"a":',
    "empty": b"",
    "byte-order-mark": b"\xef\xbb\xbf{}",
    "scalar": b"1",
    "nul": b"\0",
    "escaped-nul": b'{"a":"\\u0000"}',
    "not-utf-8": b'"\xff"',
    "utf-16": '{"a":1}'.encode("utf-16"),
    "huge-number": b"9" * 5_000,
    "absurd-exponent": b"1e999999999999999999999",
}
odd_bodies = cases("body", ODD_BODIES)


@odd_bodies
@pytest.mark.parametrize("content_type", [JSON, "text/plain", FORM, ""], ids=repr)
def test_fr054_odd_body_reaches_the_view_and_its_copy_is_a_replay(
    body: bytes, content_type: str
) -> None:
    client = signed_in_client()
    first, again = (send(client, "/echo/", body, content_type) for _ in range(2))

    assert (first.status_code, first.content, is_replay(first)) == (200, body, False)
    assert (again.content, is_replay(again), orders()) == (body, True, 1)


def test_fr068_payload_cannot_be_rebuilt_from_the_row() -> None:
    send(signed_in_client(), body='{"pin": "1234"}')
    stored = repr(IdempotencyRecord.objects.values().get())
    with override_settings(**{"SECRET_KEY": "guessed"}):
        send(Client(), body='{"pin": "1234"}', key=GUEST_KEY)
    guessed = IdempotencyRecord.objects.get(key=GUEST_KEY).fingerprint

    assert "1234" not in stored
    assert guessed not in stored
