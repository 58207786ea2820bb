"""The rows of the behaviour table that one connection can show.

Keys are in test_key_transport, what is kept in test_kept_failures, answers in
test_replay_fidelity; here is the life of one record.
"""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from tests.integration.ordering import (
    JSON,
    is_replay,
    orders,
    place_order,
    problem_code,
    signed_in_client,
)
from tests.testapp.models import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

BASE_URL = (
    "https://django-idempotency.readthedocs.io/en/stable/reference/problems.html#"
)
RETENTION = timedelta(hours=48)


@idempotent
def order_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent(retention=timedelta(days=30))
def month_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent
def inner_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent
def outer_view(request: HttpRequest) -> HttpResponse:
    inner = inner_view(request)
    return HttpResponse(inner.content, status=202)


@idempotent
@idempotent
def twice_decorated_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


@idempotent(required=False)
def operation_view(request: IdempotentRequest) -> HttpResponse:
    """Tell what the view knows of its operation."""
    operation = request.idempotency
    Order.objects.create()
    return JsonResponse(
        {
            "key": operation.key,
            "charge": [operation.key_for("charge"), operation.key_for("charge")],
            "mail": operation.key_for("mail"),
        },
        status=503 if request.headers.get("X-Fail") else 200,
    )


@idempotent
def forgetting_view(request: HttpRequest) -> HttpResponse:
    """Delete what protects it."""
    Order.objects.create()
    IdempotencyRecord.objects.all().delete()
    return HttpResponse(status=201)


@idempotent(keep_errors=True)
def misconfigured_view(request: HttpRequest) -> HttpResponse:
    return place_order(request)


urlpatterns = [
    path("orders/", order_view),
    path("month/", month_view),
    path("outer/", outer_view),
    path("twice/", twice_decorated_view),
    path("operation/", operation_view),
    path("forgetting/", forgetting_view),
    path("misconfigured/", misconfigured_view),
]


def send(
    client: Client,
    url: str = "/orders/",
    body: str = "{}",
    *,
    key: str | None = "K",
    method: str = "POST",
    **headers: str,
) -> ClientResponse:
    if key is not None:
        headers["Idempotency-Key"] = key
    return client.generic(method, url, body, JSON, headers=headers)


def expire() -> None:
    """Let the retention of every record be over."""
    IdempotencyRecord.objects.update(expires_at=F("created_at") - timedelta(seconds=1))


def problem_of(response: ClientResponse) -> tuple[dict[str, Any], str | None]:
    assert response.headers["Content-Type"] == "application/problem+json"
    return json.loads(response.content), response.headers.get("Retry-After")


def test_first_call_leaves_a_record_that_says_everything() -> None:
    client = signed_in_client()
    response = send(client, "/orders/?a=1")
    record = IdempotencyRecord.objects.get()
    user = client.session["_auth_user_id"]

    assert (record.scope, record.key, record.method, record.path) == (
        f"auth.User:{user}|POST|/orders/",
        "K",
        "POST",
        "/orders/",
    )
    assert (record.state, record.attempts, record.last_error, record.replays) == (
        "kept",
        1,
        "",
        0,
    )
    assert record.response_body is not None
    assert (record.response_status, bytes(record.response_body)) == (
        201,
        response.content,
    )
    assert (record.effects, record.lease_token, record.lease_expires_at) == (
        {},
        None,
        None,
    )


@pytest.mark.parametrize(
    ("url", "retention"),
    [("/orders/", RETENTION), ("/month/", timedelta(days=30))],
    ids=["setting", "policy"],
)
def test_retention_is_counted_from_the_claim(url: str, retention: timedelta) -> None:
    send(signed_in_client(), url)
    record = IdempotencyRecord.objects.get()

    assert abs(record.expires_at - record.created_at - retention) < timedelta(seconds=1)


def test_key_missing() -> None:
    assert problem_of(send(signed_in_client(), key=None)) == (
        {
            "type": BASE_URL + "key-missing",
            "title": "An idempotency key is required",
            "status": 400,
            "detail": "Make a random key before the first try, send it in the "
            "Idempotency-Key header, and send the same key again with each retry of "
            "this request.",
            "code": "key-missing",
        },
        None,
    )


def test_key_invalid() -> None:
    assert problem_of(send(signed_in_client(), key="a b")) == (
        {
            "type": BASE_URL + "key-invalid",
            "title": "The idempotency key can't be used",
            "status": 400,
            "detail": "The key holds characters other than visible ASCII.",
            "code": "key-invalid",
        },
        None,
    )


def test_key_reused() -> None:
    client = signed_in_client()
    send(client)

    assert problem_of(send(client, body='{"other":1}')) == (
        {
            "type": BASE_URL + "key-reused",
            "title": "The idempotency key was used for another request",
            "status": 422,
            "detail": "The first request with this key had another payload, and its "
            "outcome stands. If you mean a new request, make a new key.",
            "code": "key-reused",
        },
        None,
    )


@pytest.mark.parametrize("body", ["{}", '{"other":1}'], ids=["same", "other-payload"])
def test_in_flight(body: str) -> None:
    client = signed_in_client()
    send(client)
    # As a claim by hand, or by the leased shape of a later release, would stand there.
    IdempotencyRecord.objects.update(state="in_flight")
    before = IdempotencyRecord.objects.values().get()

    assert problem_of(send(client, body=body)) == (
        {
            "type": BASE_URL + "in-flight",
            "title": "The first request with this key is still running",
            "status": 409,
            "detail": "Wait as long as the Retry-After header says, then send the same "
            "request with the same key again.",
            "code": "in-flight",
        },
        "1",
    )
    assert (IdempotencyRecord.objects.values().get(), orders()) == (before, 1)


@pytest.mark.parametrize("is_expired", [False, True], ids=["live", "past-retention"])
def test_outcome_unknown(is_expired: bool) -> None:
    client = signed_in_client()
    send(client)
    IdempotencyRecord.objects.update(state="held")
    if is_expired:
        expire()
    before = IdempotencyRecord.objects.values().get()

    assert problem_of(send(client)) == (
        {
            "type": BASE_URL + "outcome-unknown",
            "title": "The outcome of this request is being looked into",
            "status": 409,
            "detail": "It may or may not have happened, and a person has to find out. "
            "Don't send it under a new key.",
            "code": "outcome-unknown",
        },
        None,
    )
    assert (IdempotencyRecord.objects.values().get(), orders()) == (before, 1)


def test_answer_unavailable() -> None:
    client = signed_in_client()
    send(client)
    IdempotencyRecord.objects.update(response_headers="garbled")
    before = IdempotencyRecord.objects.values().get()

    assert problem_of(send(client)) == (
        {
            "type": BASE_URL + "answer-unavailable",
            "title": "The request was carried out, but its answer can't be shown again",
            "status": 409,
            "detail": "Look the outcome up another way. Don't send it under a new key.",
            "code": "answer-unavailable",
        },
        None,
    )
    assert (IdempotencyRecord.objects.values().get(), orders()) == (before, 1)


@contextmanager
def read_only_database() -> Iterator[None]:
    """A database that takes no writes, as after a failover."""
    with connection.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = off")


STORE_UNAVAILABLE = (
    {
        "type": BASE_URL + "store-unavailable",
        "title": "The request could not be accepted just now",
        "status": 503,
        "detail": "Nothing was done. Wait as long as the Retry-After header says, then "
        "send the same request with the same key again.",
        "code": "store-unavailable",
    },
    "1",
)


@pytest.mark.postgresql
def test_store_unavailable() -> None:
    client = signed_in_client()
    with read_only_database():
        response = send(client)

    assert problem_of(response) == STORE_UNAVAILABLE
    assert (orders(), IdempotencyRecord.objects.count()) == (0, 0)


def test_no_problem_holds_the_key() -> None:
    client = signed_in_client()
    key = "S3CR3T-KEY"
    send(client, key=key)
    answers = [
        send(client, body='{"pin":"1234"}', key=key),
        send(client, key=f"{key},"),
    ]

    assert [problem_code(each) for each in answers] == ["key-reused", "key-invalid"]
    assert b"S3CR3T" not in b"".join(each.content for each in answers)


STATES = pytest.mark.parametrize("state", ["kept", "released", "in_flight"])


@STATES
@pytest.mark.parametrize("body", ["{}", '{"other":1}'], ids=["same", "other-payload"])
def test_record_past_its_retention_is_a_new_operation(state: str, body: str) -> None:
    client = signed_in_client()
    send(client)
    IdempotencyRecord.objects.update(
        state=state, attempts=7, last_error="E", replays=7, effects={"a": 1}
    )
    expire()
    old = IdempotencyRecord.objects.get()
    response = send(client, body=body)
    new = IdempotencyRecord.objects.get()

    assert (response.status_code, is_replay(response), orders()) == (201, False, 2)
    assert (new.state, new.attempts, new.last_error, new.replays, new.effects) == (
        "kept",
        1,
        "",
        0,
        {},
    )
    assert new.created_at > old.created_at
    assert abs(new.expires_at - new.created_at - RETENTION) < timedelta(seconds=1)


def test_new_operation_is_compared_by_its_own_payload() -> None:
    client = signed_in_client()
    send(client, body='{"a":1}')
    expire()
    send(client, body='{"a":2}')

    assert is_replay(send(client, body='{"a":2}'))
    assert problem_code(send(client, body='{"a":1}')) == "key-reused"


def test_record_just_before_its_retention_is_replayed() -> None:
    client = signed_in_client()
    send(client)
    IdempotencyRecord.objects.update(expires_at=F("expires_at") - RETENTION * 0.999)

    assert is_replay(send(client))


def test_failure_of_a_new_operation_counts_its_attempts_anew() -> None:
    client = signed_in_client()
    for _ in range(3):
        send(client, "/operation/", **{"X-Fail": "1"})
    expire()
    send(client, "/operation/", **{"X-Fail": "1"})
    record = IdempotencyRecord.objects.get()

    assert (record.state, record.attempts) == ("released", 1)


@pytest.mark.parametrize(("url", "status"), [("/outer/", 202), ("/twice/", 201)])
def test_protected_view_inside_a_protected_view_is_transparent(
    url: str, status: int
) -> None:
    client = signed_in_client()
    copies = [send(client, url) for _ in range(2)]
    record = IdempotencyRecord.objects.get()

    assert [copy.status_code for copy in copies] == [status, status]
    assert ([is_replay(copy) for copy in copies], orders()) == ([False, True], 1)
    assert (record.path, record.response_status, record.attempts) == (url, status, 1)


def test_view_knows_its_operation() -> None:
    knows = send(signed_in_client(), "/operation/").json()

    assert (knows["key"], len(set(knows["charge"]))) == ("K", 1)
    assert knows["mail"] != knows["charge"][0]


def test_fr027_derived_key_is_equal_on_each_attempt() -> None:
    """FR-027."""
    client = signed_in_client()
    failed = send(client, "/operation/", **{"X-Fail": "1"}).json()
    done = send(client, "/operation/").json()

    assert failed == done


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"key": "K2"}, id="key"),
        pytest.param({"method": "PATCH"}, id="method"),
    ],
)
def test_fr027_derived_key_of_another_operation_differs(other: dict[str, Any]) -> None:
    """FR-027."""
    client = signed_in_client()
    one = send(client, "/operation/").json()
    another = send(client, "/operation/", **other).json()

    assert one["charge"] != another["charge"]


def test_fr027_derived_key_outlives_the_secret_key() -> None:
    """FR-027."""
    client = signed_in_client()
    before = send(client, "/operation/", **{"X-Fail": "1"}).json()
    rotated = override_settings(
        **{"SECRET_KEY": "rotated", "SECRET_KEY_FALLBACKS": ["tests-only"]}
    )
    with rotated:
        after = send(client, "/operation/").json()

    assert before == after


def test_without_a_key_each_step_gets_a_fresh_one() -> None:
    knows = send(signed_in_client(), "/operation/", key=None).json()
    keys = [*knows["charge"], knows["mail"]]

    assert (knows["key"], len(set(keys))) == (None, 3)
    assert [uuid.UUID(key).version for key in keys] == [4, 4, 4]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_view_finds_its_operation_on_safe_methods_too(method: str) -> None:
    assert send(signed_in_client(), "/operation/", method=method).status_code == 200


def test_view_that_deletes_its_record_is_rolled_back() -> None:
    with pytest.raises(RuntimeError, match="claimed record is gone"):
        send(signed_in_client(), "/forgetting/")

    assert orders() == 0


def test_keep_errors_is_refused_on_a_plain_view() -> None:
    with pytest.raises(ImproperlyConfigured, match="keep_errors=True needs"):
        send(signed_in_client(), "/misconfigured/")
