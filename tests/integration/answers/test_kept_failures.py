"""Which failures are kept and which free the key: FR-039, FR-040 and FR-043."""

import json
from typing import Any

import pytest
from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.support.cases import cases
from tests.support.ordering import (
    forgiving_client,
    orders,
    send,
    signed_in_client,
    word,
    words,
)
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

KEPT = [200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 410, 422]
RELEASED = [405, 406, 408, 413, 415, 421, 423, 424, 425, 429, 500, 502, 503, 504, 599]

RAISED = {
    "404": Http404("none"),
    "403": PermissionDenied("no"),
    "400": BadRequest("bad"),
    "suspicious": SuspiciousOperation("odd"),
    "error": ValueError("no"),
}


class World:
    """What changes between two tries."""

    is_ready = False


def _when_ready(failure: HttpResponse | Exception) -> HttpResponse:
    Order.objects.create()
    if World.is_ready:
        return HttpResponse(b"done", status=201)
    if isinstance(failure, Exception):
        raise failure
    return failure


def returned_when_not_ready(request: HttpRequest, status: int) -> HttpResponse:
    return _when_ready(HttpResponse(b"{}", status=status))


@idempotent
def raised_when_not_ready(request: HttpRequest, kind: str) -> HttpResponse:
    return _when_ready(RAISED[kind])


keeping_all: Any = idempotent(keep=lambda response: True)
keeping_success: Any = idempotent(keep=lambda response: response.status_code < 400)


@idempotent
def charge_view(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    card = json.loads(request.body)["card"]
    return JsonResponse({"card": card}, status=402 if card == "declined" else 201)


urlpatterns = [
    path("returned/<int:status>/", idempotent(required=False)(returned_when_not_ready)),
    path("raised/<str:kind>/", raised_when_not_ready),
    path("all/<int:status>/", keeping_all(returned_when_not_ready)),
    path("success/<int:status>/", keeping_success(returned_when_not_ready)),
    path("charge/", charge_view),
]


@pytest.fixture(autouse=True)
def _world_is_not_ready() -> None:
    World.is_ready = False


def record() -> tuple[str, int, str] | None:
    """State, attempts and last error of the only record, if there is one."""
    rows = IdempotencyRecord.objects.values_list("state", "attempts", "last_error")
    return rows.get() if rows else None


@pytest.mark.parametrize("status", KEPT)
def test_returned_answer_is_kept_with_the_writes(status: int) -> None:
    copies = words(signed_in_client(), f"/returned/{status}/")

    assert copies == [f"{status}", f"{status} replayed"]
    assert (orders(), record()) == (1, ("kept", 1, ""))


@pytest.mark.parametrize("status", RELEASED)
def test_returned_answer_that_is_no_outcome_is_rolled_back(status: int) -> None:
    response = send(signed_in_client(), f"/returned/{status}/")

    assert (response.status_code, response.content) == (status, b"{}")
    assert (orders(), record()) == (0, ("released", 1, ""))


@pytest.mark.parametrize("status", [*KEPT, *RELEASED])
def test_without_a_key_the_same_answers_are_committed_or_rolled_back(
    status: int,
) -> None:
    response = send(signed_in_client(), f"/returned/{status}/", key=None)

    assert (response.status_code, record()) == (status, None)
    assert orders() == (1 if status in KEPT else 0)


def test_raised_error_rolls_back_and_leaves_a_note() -> None:
    """The note never holds the message of the error."""
    assert words(forgiving_client(), "/raised/error/") == ["500", "500"]
    assert (orders(), record()) == (0, ("released", 2, "builtins.ValueError"))
    assert IdempotencyRecord.objects.get().response_body is None


# The first answer, and what comes to the same key when the world has changed.
CHANGED = {
    "FR-039-raised": ("/raised/error/", "500", "201"),
    "FR-039-503": ("/returned/503/", "503", "201"),
    "FR-039-500": ("/returned/500/", "500", "201"),
    "FR-039-kept-by-the-policy": ("/all/503/", "503", "503 replayed"),
    "FR-040-raised-400": ("/raised/400/", "400", "201"),
    "FR-040-raised-403": ("/raised/403/", "403", "201"),
    "FR-040-raised-404": ("/raised/404/", "404", "201"),
    "FR-040-suspicious": ("/raised/suspicious/", "400", "201"),
    "FR-040-returned-400": ("/returned/400/", "400", "400 replayed"),
    "FR-040-returned-409": ("/returned/409/", "409", "409 replayed"),
    "FR-040-freed-by-the-policy": ("/success/409/", "409", "201"),
}


@cases("url, first, then", CHANGED)
def test_key_is_free_after_what_is_no_outcome(url: str, first: str, then: str) -> None:
    """A kept answer stays until the client makes a new key."""
    client = forgiving_client()
    assert word(send(client, url)) == first
    World.is_ready = True

    assert word(send(client, url)) == then
    assert orders() == 1
    assert word(send(client, url, key="K2")) == "201"


def test_fr039_success_after_failures_keeps_their_number() -> None:
    client = forgiving_client()
    words(client, "/raised/error/")
    World.is_ready = True
    send(client, "/raised/error/")

    assert record() == ("kept", 3, "builtins.ValueError")


def test_fr043_declined_card_is_not_asked_again_and_another_needs_a_new_key() -> None:
    client = signed_in_client()
    send(client, "/charge/", '{"card":"declined"}')

    assert word(send(client, "/charge/", '{"card":"declined"}')) == "402 replayed"
    refused = send(client, "/charge/", '{"card":"good"}')
    assert word(refused) == "422 key-reused"
    assert "make a new key" in json.loads(refused.content)["detail"]
    assert orders() == 1
    assert word(send(client, "/charge/", '{"card":"good"}', key="K2")) == "201"


def test_repeat_of_a_released_one_with_another_payload_is_refused() -> None:
    client = signed_in_client()
    send(client, "/returned/503/", '{"amount":1}')
    World.is_ready = True

    assert word(send(client, "/returned/503/", '{"amount":2}')) == "422 key-reused"
    assert (orders(), record()) == (0, ("released", 1, ""))
