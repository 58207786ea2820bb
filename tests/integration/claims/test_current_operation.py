"""Code finds the operation that it is part of, wherever it stands."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.tasks import current_operation, idempotent_task, run_once
from django_idempotency.webhooks import Event, providers, webhook
from tests.integration.webhooks.receivers import make_due, steps
from tests.support.deliveries import SECRET, stripe
from tests.support.ordering import forgiving_client, send

keys: list[str] = []
"""What each attempt would have told the other side."""


def charge() -> str:
    """Deep in the project's code, which knows of no request."""
    keys.append(current_operation().key_for("charge"))
    if len(keys) == 1:
        raise ZeroDivisionError  # so that there is a second attempt
    return keys[-1]


def pay(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"same": charge() == request.idempotency.key_for("charge")})  # type: ignore[attr-defined]


async def pay_async(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(pay)(request)


@method_decorator(idempotent, name="post")
class Pay(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return pay(request)


class PayByMixin(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        same = charge() == request.idempotency.key_for("charge")  # type: ignore[attr-defined]
        return Response({"same": same})


def handle(event: Event) -> None:
    assert charge() == event.key_for("charge")


def receiver(name: str, **options: Any) -> Any:
    named: Any = webhook(
        providers.STRIPE, secrets=SECRET, endpoint=f"tested-current-{name}", **options
    )
    return named(handle)


leased: Any = idempotent(lease=timedelta(minutes=1))
VIEWS = {
    "function": idempotent(pay),
    "class": Pay.as_view(),
    "leased": leased(pay),
    "rest": PayByMixin.as_view(),
}
urlpatterns = [
    *[path(f"{name}/", view) for name, view in VIEWS.items()],
    path("async/", leased(pay_async)),
    path("inline/", receiver("inline")),
    path("inbox/", receiver("inbox", inbox=True)),
]

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _no_attempts() -> None:
    keys.clear()


@pytest.mark.parametrize("name", VIEWS)
def test_in_a_view(name: str) -> None:
    client = forgiving_client()
    answers = [send(client, f"/{name}/") for _ in range(2)]

    assert [each.status_code for each in answers] == [500, 200]
    assert answers[1].json() == {"same": True}
    assert keys[0] == keys[1]


def test_in_an_async_view() -> None:
    async def post() -> Any:
        client = AsyncClient(raise_request_exception=False)
        headers = {"Idempotency-Key": "f81d4fae-7dec-4d0a-a765-00a0c91e6bf6"}
        try:
            return [await client.post("/async/", headers=headers) for _ in range(2)]
        finally:
            await sync_to_async(connections.close_all)()

    answers = asyncio.run(post())

    assert (answers[1].json(), keys[0] == keys[1]) == ({"same": True}, True)


@pytest.mark.parametrize("name", ["inline", "inbox"])
def test_in_a_webhook_handler(name: str) -> None:
    for _ in range(2):
        sent = stripe()
        send(forgiving_client(), f"/{name}/", sent.body, key=None, **sent.headers)
        make_due()
        steps()

    assert len(keys) == 2
    assert keys[0] == keys[1]


TASKS: list[Callable[[], Any]] = [
    lambda: run_once("charge:1", charge),
    idempotent_task(key=lambda: "charge:1", name="tests.charge")(charge),
]


@pytest.mark.parametrize("task", TASKS)
def test_in_a_task(task: Callable[[], Any]) -> None:
    with pytest.raises(ZeroDivisionError):
        task()

    assert task() == keys[0] == keys[1]


def test_of_a_task_within_a_view_and_then_of_the_view_again() -> None:
    seen = []

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        seen.append(current_operation())
        run_once("inner", lambda: seen.append(current_operation()))
        seen.append(current_operation())
        return HttpResponse()

    request = forgiving_client().post("/none/").wsgi_request
    request = type(request)({**request.environ, "HTTP_IDEMPOTENCY_KEY": "1" * 21})
    view(request)

    assert [each.key for each in seen] == ["1" * 21, "inner", "1" * 21]
    assert current_operation().key is None
