"""Async operations, which need a lease; and what became of an operation."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient
from ninja import Router
from ninja.errors import HttpError

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.http import IdempotentRequest
from tests.support.cases import cases
from tests.support.ordering import (
    GUEST_KEY,
    JSON,
    is_replay,
    orders,
    send,
    signed_in_client,
    word,
)
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import (
    Placed,
    Wish,
    api_of,
    deprecated_tuples,
    new_api,
    place,
    serving,
    twice,
)

pytestmark = [pytest.mark.usefixtures("db"), deprecated_tuples]

MINUTE = timedelta(minutes=1)


def apost(body: str = "{}", key: str = GUEST_KEY, client: Any = None) -> Any:
    client = client or AsyncClient(raise_request_exception=False)
    headers = {"Idempotency-Key": key}
    return async_to_sync(client.post)("/", body, content_type=JSON, headers=headers)


async def work(request: IdempotentRequest, wish: Wish, response: HttpResponse) -> Any:
    order = await request.idempotency.awrite(
        "order", lambda: Order.objects.create(amount=wish.amount).pk
    )
    await asyncio.sleep(0)
    response.headers["X-Till"] = "4"
    match wish.ends:
        case "refused":
            raise HttpError(402, "No money.")
        case "invalid":
            return 201, {"order": "none"}
        case _:
            pass
    return 201, {"order": order, "amount": wish.amount}


ENDS = {
    "": (["201", "201 replayed"], ["kept"]),
    "refused": (["402", "402"], ["released"]),
    "invalid": (["500", "500"], ["released"]),
}


@pytest.mark.parametrize("ends", ENDS)
def test_async_operation_runs_once_and_keeps_what_ninja_makes(ends: str) -> None:
    """What a step has written stays, and isn't written again."""

    async def operation(
        request: IdempotentRequest, wish: Wish, response: HttpResponse
    ) -> Any:
        return await work(request, wish, response)

    with serving(api_of(idempotent(lease=MINUTE)(operation))):
        first, copy = (apost(f'{{"amount": 3, "ends": "{ends}"}}') for _ in range(2))

    assert ([word(first), word(copy)], states()) == ENDS[ends]
    assert (orders(), copy.content) == (1, first.content)
    if not ends:
        assert copy.headers["X-Till"] == "4"


def test_kept_error_of_an_async_operation_is_replayed() -> None:
    async def operation(request: HttpRequest, wish: Wish) -> Any:
        raise HttpError(402, "No money.")

    with serving(api_of(idempotent(lease=MINUTE, keep_errors=True)(operation))):
        answers = [apost() for _ in range(2)]

    assert [word(each) for each in answers] == ["402", "402 replayed"]


def test_sync_operation_beside_an_async_one_runs_in_its_transaction() -> None:
    """Ninja then runs it in a thread."""

    async def look(request: HttpRequest) -> Any:
        return 200, {}

    api = api_of(idempotent(place))
    api.get("/", response={200: dict[str, str]})(idempotent(lease=MINUTE)(look))
    with serving(api):
        first, copy = apost(), apost()
        seen = async_to_sync(AsyncClient().get)("/")

    assert [word(each) for each in (first, copy, seen)] == [
        "201",
        "201 replayed",
        "200",
    ]
    assert (orders(), states()) == (1, ["kept"])


def test_async_operation_may_call_a_protected_one() -> None:
    @idempotent(lease=MINUTE)
    async def inner(request: HttpRequest, wish: Wish) -> Any:
        order = await Order.objects.acreate()
        return 201, {"order": order.pk, "amount": 0}

    async def outer(request: HttpRequest, wish: Wish) -> Any:
        return await inner(request, wish)

    with serving(api_of(idempotent(lease=MINUTE)(outer))):
        answers = [apost() for _ in range(2)]

    assert [word(each) for each in answers] == ["201", "201 replayed"]
    assert orders() == 1


# What a client asks about, and what it is told.
ASKED = {
    "done": ("/7/", GUEST_KEY, "201 replayed"),
    "unknown": ("/7/", GUEST_KEY[:-1] + "0", "404 operation-unknown"),
    "unprotected": ("/free/", GUEST_KEY, "400 ask-invalid"),
    "elsewhere": ("/8/", GUEST_KEY, "404 operation-unknown"),
}


@cases("asked", ASKED)
@pytest.mark.parametrize("lease", [None, MINUTE], ids=["sync", "async"])
def test_question_needs_no_body_and_passes_the_same_checks(
    asked: tuple[str, str, str], lease: timedelta | None, settings: Any
) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django_idempotency.middleware.OutcomeMiddleware",
    ]

    def operation(request: HttpRequest, number: int, wish: Wish) -> Any:
        return place(request, wish)

    async def async_operation(request: HttpRequest, number: int, wish: Wish) -> Any:
        order = await Order.objects.acreate(amount=wish.amount)
        return 201, {"order": order.pk, "amount": order.amount}

    def may(request: HttpRequest) -> Any:
        return request.headers.get("X-Key") == "a"

    api, router = new_api(), Router(auth=may)
    protected = idempotent(lease=lease)(async_operation if lease else operation)
    router.post("/{int:number}/", response={201: Placed})(protected)
    router.post("/free/", response={201: Placed})(lambda request: None)
    api.add_router("", router)
    at, key, told = asked
    with serving(api):
        client = signed_in_client()
        (first, _) = twice(client, "/7/", key=GUEST_KEY, X_Key="a")
        options: dict[str, Any] = {"method": "GET", "Idempotency_Ask": "POST"}
        answer = send(client, at, b"", key=key, X_Key="a", **options)
        stranger = send(client, at, b"", key=key, X_Key="b", **options)

    assert word(answer) == told
    assert is_replay(answer) == (answer.content == first.content)
    assert stranger.status_code == (400 if "free" in at else 401)
    assert orders() == 1
