"""Which repeats are the same request: FR-044 to FR-054, and FR-068's rotation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.request import Request

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

FORM = "application/x-www-form-urlencoded"


@idempotent
def order_view(request: HttpRequest, **route: Any) -> HttpResponse:
    return place_order(request)


@api_view(["POST", "PUT", "PATCH"])
@idempotent
def rest_view(request: Request) -> HttpResponse:
    return place_order(request._request)


@api_view(["POST"])
def plain_rest_view(request: Request) -> HttpResponse:
    """The same without protection, for a view that looks at its data."""
    return JsonResponse({"data": repr(request.data)}, status=201)


@idempotent
def echo_view(request: HttpRequest) -> HttpResponse:
    """Answer with the body that the view reads."""
    Order.objects.create()
    return HttpResponse(request.body, content_type="application/octet-stream")


@csrf_exempt
def plain_echo_view(request: HttpRequest) -> HttpResponse:
    """The same without protection."""
    return HttpResponse(request.body, content_type="application/octet-stream")


@idempotent(exclude=("client_nonce", "clock"))
def excluding_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent(exclude=("client_nonze",))
def misspelling_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


def _amount(request: HttpRequest) -> str:
    amount: int = json.loads(request.body)["amount"]
    return f"{amount}"


@idempotent(fingerprint=_amount)
def amount_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent
def upload_view(request: HttpRequest) -> HttpResponse:
    """Answer with the upload that the view reads."""
    Order.objects.create()
    upload = request.FILES["f"]
    return JsonResponse({"name": upload.name, "content": upload.read().hex()})  # type: ignore[union-attr]


urlpatterns = [
    path("orders/", order_view),
    path("orders", order_view),
    path("rest/", rest_view),
    path("plain-rest/", plain_rest_view),
    path("orders/<int:pk>/pay/", order_view),
    path("orders/<int:pk>/cancel/", order_view),
    path("orders/<str:name>/", order_view),
    path("echo/", echo_view),
    path("plain-echo/", plain_echo_view),
    path("excluding/", excluding_view),
    path("misspelling/", misspelling_view),
    path("amount/", amount_view),
    path("upload/", upload_view),
]


def send(
    client: Client,
    body: str | bytes = b"{}",
    url: str = "/orders/",
    *,
    content_type: str = JSON,
    method: str = "POST",
    key: str = "K",
) -> ClientResponse:
    return client.generic(
        method, url, body, content_type, headers={"Idempotency-Key": key}
    )


def seen_as(response: ClientResponse) -> str:
    """Whether the request was answered again, refused or run."""
    if is_replay(response):
        return "replay"
    return "mismatch" if problem_code(response) == "key-reused" else "run"


PLAIN_AND_REST = pytest.mark.parametrize("url", ["/orders/", "/rest/"])


@PLAIN_AND_REST
@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        pytest.param(
            '{"a":1,"b":[1,2]}', '{ "b": [1,2], "a": 1 }', "replay", id="members"
        ),
        pytest.param('{"a":1,"b":[1,2]}', '{"a":1,"b":[2,1]}', "mismatch", id="list"),
        pytest.param('{"a":"caf\\u00e9"}', '{"a":"café"}', "replay", id="escapes"),
        pytest.param('{"a":10}', '{"a":10.0}', "replay", id="spelling-of-a-number"),
        pytest.param('{"a":1}', '{"a":"1"}', "mismatch", id="type"),
    ],
)
def test_fr044_json_is_compared_by_its_meaning(
    url: str, first: str, second: str, outcome: str
) -> None:
    """FR-044."""
    client = signed_in_client()
    send(client, first, url)

    assert seen_as(send(client, second, url)) == outcome


@PLAIN_AND_REST
@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        pytest.param("?dry=1", "", "mismatch", id="dry-run-then-live"),
        pytest.param("?a=1&b=2", "?b=2&a=1", "replay", id="distinct-names"),
        pytest.param("?a=1&a=2", "?a=2&a=1", "mismatch", id="one-name"),
        pytest.param("?a=%7E", "?a=~", "replay", id="percent-encoding"),
        pytest.param("?a=%C3%A9", "?a=é", "replay", id="raw-utf-8"),
        pytest.param("?", "", "replay", id="empty"),
    ],
)
def test_fr045_query_counts(url: str, first: str, second: str, outcome: str) -> None:
    """FR-045."""
    client = signed_in_client()
    send(client, url=url + first)

    assert seen_as(send(client, url=url + second)) == outcome


@pytest.mark.parametrize(
    ("content_type", "outcome"),
    [
        pytest.param("text/plain", "mismatch", id="text"),
        pytest.param(f"{JSON}; charset=utf-8", "replay", id="charset"),
        pytest.param(FORM, "mismatch", id="form"),
        pytest.param("", "mismatch", id="none"),
    ],
)
def test_fr046_media_type_counts_without_its_charset(
    content_type: str, outcome: str
) -> None:
    """FR-046."""
    client = signed_in_client()
    send(client, '{"a":1}')

    assert seen_as(send(client, '{"a":1}', content_type=content_type)) == outcome


@pytest.mark.parametrize(
    ("method", "url"),
    [
        pytest.param("POST", "/orders/1/cancel/", id="other-endpoint"),
        pytest.param("PATCH", "/orders/", id="PATCH"),
        pytest.param("PUT", "/orders/", id="PUT"),
        pytest.param("DELETE", "/orders/", id="DELETE"),
        pytest.param("POST", "/rest/", id="rest"),
    ],
)
def test_fr047_key_of_another_endpoint_or_method_runs(method: str, url: str) -> None:
    """FR-047."""
    client = signed_in_client()
    send(client)

    assert (seen_as(send(client, method=method, url=url)), orders()) == ("run", 2)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        pytest.param("/orders/1/pay/", "/orders/2/pay/", "run", id="other-order"),
        pytest.param("/orders/", "/orders", "run", id="trailing-slash"),
        pytest.param("/orders/caf%C3%A9/", "/orders/café/", "replay", id="utf-8"),
        pytest.param("/orders/%61/", "/orders/a/", "replay", id="needless-escape"),
        pytest.param("/orders/a%2Db/", "/orders/a%2db/", "replay", id="case-of-escape"),
        pytest.param("/orders/A/", "/orders/a/", "run", id="case"),
    ],
)
def test_fr048_path_counts_as_it_is_decoded(
    first: str, second: str, outcome: str
) -> None:
    """FR-048."""
    client = signed_in_client()
    send(client, b"", first, content_type="")

    assert seen_as(send(client, b"", second, content_type="")) == outcome


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@pytest.mark.parametrize(
    ("part", "outcome"),
    [
        pytest.param(multipart.file("f", b"one\0"), "replay", id="boundary-only"),
        pytest.param(multipart.file("f", b"one\1"), "mismatch", id="byte"),
        pytest.param(
            multipart.file("f", b"one\0", filename="b.txt"), "mismatch", id="file-name"
        ),
    ],
)
@PLAIN_AND_REST
def test_fr049_multipart_is_compared_by_its_parts(
    url: str, part: bytes, outcome: str, method: str
) -> None:
    """FR-049."""
    client = signed_in_client()
    amount = multipart.field("amount", "1")
    first = multipart.body(amount, multipart.file("f", b"one\0"))
    second = multipart.body(amount, part, boundary="----other")
    send(client, first, url, content_type=multipart.content_type(), method=method)
    response = send(
        client,
        second,
        url,
        content_type=multipart.content_type("----other"),
        method=method,
    )

    assert seen_as(response) == outcome


@pytest.mark.parametrize("size", [10, 3_000_000], ids=["in-memory", "on-disk"])
def test_fr049_upload_can_be_read_by_the_view(size: int) -> None:
    """FR-049."""
    content = b"\0\xff" * (size // 2)
    response = send(
        signed_in_client(),
        multipart.body(multipart.file("f", content)),
        "/upload/",
        content_type=multipart.content_type(),
    )

    assert response.json() == {"name": "a.txt", "content": content.hex()}


def test_fr052_other_amount_is_refused_and_not_run() -> None:
    """FR-052."""
    client = signed_in_client()
    send(client, '{"amount":10}')
    response = send(client, '{"amount":12}')

    assert (response.status_code, problem_code(response), orders()) == (
        422,
        "key-reused",
        1,
    )


def test_fr052_mismatch_leaves_the_first_record_untouched() -> None:
    """FR-052."""
    client = signed_in_client()
    send(client, '{"amount":10}')
    before = IdempotencyRecord.objects.values().get()
    send(client, '{"amount":12}')

    assert IdempotencyRecord.objects.values().get() == before


def test_fr052_first_answer_can_still_be_had_after_a_mismatch() -> None:
    """FR-052."""
    client = signed_in_client()
    first = send(client, '{"amount":10}')
    send(client, '{"amount":12}')
    again = send(client, '{"amount":10}')

    assert (is_replay(again), again.content) == (True, first.content)


@pytest.mark.parametrize(
    ("url", "second", "outcome"),
    [
        pytest.param(
            "/excluding/", '{"amount":1,"client_nonce":2}', "replay", id="nonce"
        ),
        pytest.param(
            "/excluding/", '{"amount":1,"clock":2}', "replay", id="another-one"
        ),
        pytest.param("/excluding/", '{"amount":1}', "replay", id="absent"),
        pytest.param(
            "/excluding/", '{"amount":2,"client_nonce":1}', "mismatch", id="amount"
        ),
        pytest.param(
            "/misspelling/", '{"amount":1,"client_nonce":2}', "mismatch", id="typo"
        ),
        pytest.param(
            "/misspelling/", '{"amount":2,"client_nonce":1}', "mismatch", id="typo-2"
        ),
        pytest.param("/amount/", '{"amount":1,"client_nonce":2}', "replay", id="hook"),
        pytest.param("/amount/", '{"amount":2}', "mismatch", id="hook-amount"),
    ],
)
def test_fr053_excluded_field_and_custom_fingerprint(
    url: str, second: str, outcome: str
) -> None:
    """FR-053."""
    client = signed_in_client()
    send(client, '{"amount":1,"client_nonce":1}', url)

    assert seen_as(send(client, second, url)) == outcome


@pytest.mark.parametrize(
    ("second", "outcome"),
    [
        pytest.param(b"amount=1&client_nonce=2", "replay", id="nonce"),
        pytest.param(b"amount=2&client_nonce=1", "mismatch", id="amount"),
    ],
)
def test_fr053_excluded_field_of_a_form(second: bytes, outcome: str) -> None:
    """FR-053."""
    client = signed_in_client()
    send(client, b"amount=1&client_nonce=1", "/excluding/", content_type=FORM)

    assert seen_as(send(client, second, "/excluding/", content_type=FORM)) == outcome


@pytest.mark.parametrize(
    "value",
    [pytest.param(None, id="None"), pytest.param(42, id="int")],
)
def test_fingerprint_function_must_return_text_or_bytes(value: Any) -> None:
    @idempotent(fingerprint=lambda request: value)
    def view(request: HttpRequest) -> HttpResponse:
        return place_order(request)

    urls = type("urls", (), {"urlpatterns": [path("view/", view)]})
    with override_settings(ROOT_URLCONF=urls), pytest.raises(TypeError):
        send(signed_in_client(), url="/view/")


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
odd_bodies = pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES)


@odd_bodies
@pytest.mark.parametrize("content_type", [JSON, "text/plain", FORM, ""], ids=repr)
def test_fr054_view_gets_the_odd_body_as_without_us(
    body: bytes, content_type: str
) -> None:
    """FR-054."""
    client = signed_in_client()
    plain = send(client, body, "/plain-echo/", content_type=content_type)
    response = send(client, body, "/echo/", content_type=content_type)

    assert (response.status_code, response.content) == (200, plain.content)


@odd_bodies
@pytest.mark.parametrize("content_type", [JSON, "text/plain", FORM], ids=repr)
def test_fr054_copy_of_an_odd_body_is_a_replay(body: bytes, content_type: str) -> None:
    """FR-054."""
    client = signed_in_client()
    outcomes = [
        seen_as(send(client, body, content_type=content_type)) for _ in range(2)
    ]

    assert (outcomes, orders()) == (["run", "replay"], 1)


@odd_bodies
def test_fr054_rest_view_answers_an_odd_body_as_without_us(body: bytes) -> None:
    """FR-054."""
    # The parser of REST framework has limits of its own, which answer with 500.
    client = signed_in_client(raise_request_exception=False)
    plain = send(client, body, "/plain-rest/")

    assert send(client, body, "/rest/").status_code == plain.status_code


@pytest.mark.parametrize(
    ("fallbacks", "outcome"),
    [
        pytest.param(["tests-only"], "replay", id="with-fallback"),
        pytest.param([], "mismatch", id="without-fallback"),
    ],
)
def test_fr068_rotation_of_the_secret_key(fallbacks: list[str], outcome: str) -> None:
    """FR-068."""
    client = Client()
    send(client, key=GUEST_KEY)
    rotated = override_settings(
        **{"SECRET_KEY": "rotated", "SECRET_KEY_FALLBACKS": fallbacks}
    )
    with rotated:
        response = send(client, key=GUEST_KEY)

    assert seen_as(response) == outcome


def test_fr068_payload_cannot_be_rebuilt_from_the_row() -> None:
    """FR-068."""
    send(signed_in_client(), '{"pin": "1234"}')
    stored = repr(IdempotencyRecord.objects.values().get())
    with override_settings(**{"SECRET_KEY": "guessed"}):
        send(Client(), '{"pin": "1234"}', key=GUEST_KEY)
    guessed = IdempotencyRecord.objects.get(key=GUEST_KEY).fingerprint

    assert "1234" not in stored
    assert guessed not in stored
