"""The rows of the behaviour table that one connection can show.

Keys are in test_key_transport, what is kept in test_kept_failures, answers in
test_replay_fidelity; here is the life of one record.
"""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db.models import F
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.test import Client, override_settings
from django.urls import path
from django.views import View
from rest_framework.request import Request
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.http.problems import RETRY
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.databases import read_only
from tests.support.ordering import (
    is_replay,
    orders,
    place_order,
    send,
    signed_in_client,
    word,
    words,
)
from tests.support.records import change, expire, record
from tests.testapp.models import Order

if TYPE_CHECKING:
    from django.test.client import _MonkeyPatchedWSGIResponse as ClientResponse

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

BASE_URL = (
    "https://django-idempotency.readthedocs.io/en/stable/reference/problems.html#"
)
RETENTION = timedelta(hours=48)


order_view = idempotent(place_order)
month: Any = idempotent(retention=timedelta(days=30))


@idempotent
def outer_view(request: HttpRequest) -> HttpResponse:
    inner = order_view(request)
    return HttpResponse(inner.content, status=202)


class ClassView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return place_order(request)


@idempotent
def outer_of_class_view(request: HttpRequest) -> HttpResponseBase:
    return idempotent(ClassView.as_view())(request)


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


class Protected(IdempotencyMixin, APIView):
    def post(self, request: Request) -> HttpResponse:
        return place_order(request._request)


class Unprotected(Protected):
    idempotency_policy = None


urlpatterns = [
    path("orders/", order_view),
    path("orders/off/", place_order),
    path("rest/", Protected.as_view()),
    path("rest/off/", Unprotected.as_view()),
    path("month/", month(place_order)),
    path("outer/", outer_view),
    path("twice/", idempotent(order_view)),
    path("outer-of-class/", outer_of_class_view),
    path("operation/", operation_view),
    path("forgetting/", forgetting_view),
]


Problem = tuple[int, str, str, str | None]
"""Status, title, detail and when to come back."""

PROBLEMS: dict[str, Problem] = {
    "key-missing": (
        400,
        "An idempotency key is required",
        "Make a random key before the first attempt, send it in the "
        "Idempotency-Key header, and send the same key again with each retry of "
        "this request.",
        None,
    ),
    "key-invalid": (
        400,
        "The idempotency key can't be used",
        "The key contains characters other than visible ASCII.",
        None,
    ),
    "key-reused": (
        422,
        "The idempotency key was used for another request",
        "The first request with this key had another payload, and its "
        "outcome stands. If you mean a new request, make a new key.",
        None,
    ),
    "in-flight": (
        409,
        "The first request with this key is still running",
        "Wait as long as the Retry-After header says, then send the same "
        "request with the same key again.",
        "1",
    ),
    "outcome-unknown": (
        409,
        "The outcome of this request is being looked into",
        "It may or may not have happened, and a person has to find out. "
        "Don't send it under a new key.",
        None,
    ),
    "answer-unavailable": (
        409,
        "The request was carried out, but its answer can't be shown again",
        "Look the outcome up another way. Don't send it under a new key.",
        None,
    ),
    "answer-expired": (
        409,
        "The request is too old to be answered again",
        "It was received before, and its answer isn't kept any more. Nothing was done "
        "now. Look the outcome up another way. Don't send it under a new key.",
        None,
    ),
    "store-unavailable": (
        503,
        "The request could not be accepted just now",
        "Nothing was done. Wait as long as the Retry-After header says, then send the "
        "same request with the same key again.",
        "1",
    ),
}


def is_problem(code: str, response: ClientResponse) -> bool:
    """Whether this problem was answered, word by word."""
    status, title, detail, retry_after = PROBLEMS[code]
    document = {"type": BASE_URL + code, "title": title, "status": status}
    assert response.headers["Content-Type"] == "application/problem+json"
    told = json.loads(response.content)
    # Where there is an operation, people can ask about it.
    reference = told.pop("reference", None)
    assert reference == response.headers.get("Idempotency-Reference")
    told_by_code = {"code": code, "retry": RETRY[code]}
    assert told == document | {"detail": detail} | told_by_code
    return response.headers.get("Retry-After") == retry_after


@pytest.fixture
def client() -> Client:
    return signed_in_client()


def test_first_call_leaves_a_record_that_says_everything(client: Client) -> None:
    response = send(client, "/orders/?a=1")
    left = record()
    scope = f"auth.User:{client.session['_auth_user_id']}|POST|/orders/"

    assert [left.scope, left.key, left.method, left.path] == (
        [scope, "K", "POST", "/orders/"]
    )
    assert [left.state, left.attempts, left.last_error, left.replays] == (
        ["kept", 1, "", 0]
    )
    assert left.response_status == 201
    assert bytes(left.response_body or b"") == response.content
    assert [left.effects, left.lease_token, left.lease_expires_at] == [{}, None, None]


@pytest.mark.parametrize(
    ("switch", "expected"),
    [("", ["201", "201 replayed"]), ("off/", ["201", "201"])],
    ids=["FR-109-on", "FR-109-off"],
)
@pytest.mark.parametrize("url", ["/orders/", "/rest/"])
def test_two_calls_with_one_key(
    url: str, switch: str, expected: list[str], client: Client
) -> None:
    assert words(client, url + switch) == expected
    assert orders() == expected.count("201")


@pytest.mark.parametrize(
    ("url", "retention"),
    [("/orders/", RETENTION), ("/month/", timedelta(days=30))],
    ids=["setting", "policy"],
)
def test_retention_is_counted_from_the_claim(
    url: str, retention: timedelta, client: Client
) -> None:
    send(client, url)
    life = record().expires_at - record().created_at

    assert abs(life - retention) < timedelta(seconds=1)


@pytest.mark.parametrize(
    ("key", "code"), [(None, "key-missing"), ("a b", "key-invalid")]
)
def test_request_without_a_key_to_use_leaves_no_record(
    key: str | None, code: str, client: Client
) -> None:
    assert is_problem(code, send(client, key=key))
    assert (orders(), IdempotencyRecord.objects.count()) == (0, 0)


OTHER = '{"other":1}'
PAST = Now() - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("columns", "body", "code"),
    [
        pytest.param({}, OTHER, "key-reused", id="kept-other-payload"),
        # Committed in the middle of its work: without a lease nobody takes it over.
        pytest.param({"state": "in_flight"}, "{}", "outcome-unknown", id="FR-015-lost"),
        pytest.param({"state": "in_flight"}, OTHER, "outcome-unknown", id="lost-other"),
        pytest.param({"state": "held"}, "{}", "outcome-unknown", id="held"),
        pytest.param(
            {"state": "held", "expires_at": PAST},
            "{}",
            "outcome-unknown",
            id="held-past-retention",
        ),
        pytest.param(
            {"response_headers": "garbled"}, "{}", "answer-unavailable", id="unreadable"
        ),
        pytest.param(
            {"state": "expired", "remembered_until": Now() + timedelta(days=1)},
            "{}",
            "answer-expired",
            id="tombstone",
        ),
    ],
)
def test_record_in_the_way_is_left_as_it_is(
    columns: dict[str, Any], body: str, code: str, client: Client
) -> None:
    send(client)
    change(attempts=1, **columns)
    before = record()

    assert is_problem(code, send(client, body=body))
    assert (untouched(record()), orders()) == (untouched(before), 1)


NOTED = ("history", "held_since")


def untouched(seen: IdempotencyRecord) -> dict[str, Any]:
    """The record without what is noted of requests that were refused."""
    columns = IdempotencyRecord.objects.filter(pk=seen.pk).values().get()
    lost = columns["state"] == "in_flight" and columns["lease_expires_at"] is None
    # Whoever meets one that is lost says that it waits for a person.
    state = "held" if lost else columns["state"]
    return {name: value for name, value in columns.items() if name not in NOTED} | {
        "state": state
    }


@pytest.mark.postgresql
def test_store_unavailable(client: Client) -> None:
    with read_only():
        response = send(client)

    assert is_problem("store-unavailable", response)
    assert (orders(), IdempotencyRecord.objects.count()) == (0, 0)


def test_no_problem_holds_the_key(client: Client) -> None:
    key = "S3CR3T-KEY"
    send(client, key=key)
    answers = [
        send(client, body='{"pin":"1234"}', key=key),
        send(client, key=f"{key},"),
    ]

    assert [word(each) for each in answers] == ["422 key-reused", "400 key-invalid"]
    assert b"S3CR3T" not in b"".join(each.content for each in answers)


@pytest.mark.parametrize("state", ["kept", "released"])
def test_record_past_its_retention_is_a_new_operation(
    state: str, client: Client
) -> None:
    send(client)
    change(state=state, attempts=7, last_error="E", replays=7, effects={"a": 1})
    expire()
    old = record()
    answer = word(send(client, body=OTHER))
    new = record()

    assert (answer, orders()) == ("201", 2)
    assert [new.state, new.attempts, new.last_error, new.replays, new.effects] == (
        ["kept", 1, "", 0, {}]
    )
    assert new.created_at > old.created_at
    assert abs(new.expires_at - new.created_at - RETENTION) < timedelta(seconds=1)


def test_new_operation_is_compared_by_its_own_payload(client: Client) -> None:
    send(client, body='{"a":1}')
    expire()
    send(client, body='{"a":2}')

    assert word(send(client, body='{"a":2}')) == "201 replayed"
    assert word(send(client, body='{"a":1}')) == "422 key-reused"


def test_record_just_before_its_retention_is_replayed(client: Client) -> None:
    send(client)
    change(expires_at=F("expires_at") - RETENTION * 0.999)

    assert is_replay(send(client))


def test_failure_of_a_new_operation_counts_its_attempts_anew(client: Client) -> None:
    words(client, "/operation/", times=3, X_Fail="1")
    expire()
    send(client, "/operation/", X_Fail="1")

    assert (record().state, record().attempts) == ("released", 1)


@pytest.mark.parametrize(
    ("url", "status"), [("/outer/", 202), ("/twice/", 201), ("/outer-of-class/", 201)]
)
def test_protected_view_inside_a_protected_view_is_transparent(
    url: str, status: int, client: Client
) -> None:
    assert words(client, url) == [f"{status}", f"{status} replayed"]
    left = record()
    assert (left.path, left.response_status, left.attempts) == (url, status, 1)
    assert orders() == 1


def test_view_knows_its_operation(client: Client) -> None:
    knows = send(client, "/operation/").json()

    assert (knows["key"], len(set(knows["charge"]))) == ("K", 1)
    assert knows["mail"] != knows["charge"][0]


def test_fr027_derived_key_is_equal_on_each_attempt(client: Client) -> None:
    """FR-027: also when the secret key is another one by then."""
    attempts = [send(client, "/operation/", X_Fail="1").json() for _ in range(2)]
    with override_settings(
        **{"SECRET_KEY": "rotated", "SECRET_KEY_FALLBACKS": ["tests-only"]}
    ):
        attempts.append(send(client, "/operation/").json())

    assert attempts == attempts[:1] * 3


def test_fr027_derived_key_of_another_operation_differs(client: Client) -> None:
    """FR-027."""
    others: list[dict[str, str]] = [{}, {"key": "K2"}, {"method": "PATCH"}]
    answers = [send(client, "/operation/", **other).json() for other in others]

    assert len({answer["charge"][0] for answer in answers}) == 3


def test_without_a_key_each_step_gets_a_fresh_one(client: Client) -> None:
    knows = send(client, "/operation/", key=None).json()
    keys = [*knows["charge"], knows["mail"]]

    assert (knows["key"], len(set(keys))) == (None, 3)
    assert [uuid.UUID(key).version for key in keys] == [4, 4, 4]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_view_finds_its_operation_on_safe_methods_too(
    method: str, client: Client
) -> None:
    assert send(client, "/operation/", method=method).status_code == 200


def test_view_that_deletes_its_record_is_rolled_back(client: Client) -> None:
    with pytest.raises(RuntimeError, match="claimed record is gone"):
        send(client, "/forgetting/")

    assert orders() == 0
