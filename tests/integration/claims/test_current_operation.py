"""Code finds the operation that it is part of, wherever it stands."""

import asyncio
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import NoOperation
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
    with pytest.raises(NoOperation):
        current_operation()


# Where the code may stand

Ask = Callable[[], str]


def in_pool(ask: Ask) -> str:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result()


def in_pool_with_context(ask: Ask) -> str:
    return in_pool(partial(copy_context().run, ask))


def in_thread_of_its_own(ask: Ask) -> str:
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.append(caught(ask)))
    thread.start()
    thread.join()
    return told[0]


def in_executor_of_the_loop(ask: Ask) -> str:
    async def run() -> str:
        return await asyncio.get_running_loop().run_in_executor(None, ask)

    return async_to_sync(run)()


def in_to_thread(ask: Ask) -> str:
    async def run() -> str:
        return await asyncio.to_thread(ask)

    return async_to_sync(run)()


def in_sync_to_async(ask: Ask) -> str:
    return async_to_sync(sync_to_async(ask))()


def in_task_of_the_loop(ask: Ask) -> str:
    async def asked() -> str:
        return ask()

    async def run() -> str:
        return await asyncio.create_task(asked())

    return async_to_sync(run)()


def on_commit(ask: Ask) -> str:
    transaction.on_commit(lambda: seen.append(caught(ask)))
    return seen[-1] if seen else ""


def caught(ask: Ask) -> str:
    try:
        return ask()
    except NoOperation:
        return REFUSED


REFUSED = "refused"
seen: list[str] = []
PLACES: dict[Callable[[Ask], str], bool] = {
    in_pool: False,
    in_thread_of_its_own: False,
    in_executor_of_the_loop: False,
    in_pool_with_context: True,
    in_to_thread: True,
    in_sync_to_async: True,
    in_task_of_the_loop: True,
    on_commit: True,
}
"""Where the question is asked, and whether the operation can be found there."""


def ask() -> str:
    return current_operation().key_for("charge")


def of_request(request: HttpRequest, place: Callable[[Ask], str]) -> HttpResponse:
    ours = request.idempotency.key_for("charge")  # type: ignore[attr-defined]
    seen.append(ours)
    seen.append(caught(lambda: place(ask)))
    return HttpResponse()


def in_view(place: Callable[[Ask], str], **options: Any) -> None:
    wrapped: Any = idempotent(**options)
    request = RequestFactory().post("/", headers={"Idempotency-Key": "1" * 21})
    request.user = AnonymousUser()
    wrapped(lambda request: of_request(request, place))(request)


def in_leased_view(place: Callable[[Ask], str]) -> None:
    in_view(place, lease=timedelta(minutes=1))


def in_task(place: Callable[[Ask], str]) -> None:
    def work() -> None:
        seen.append(ask())
        seen.append(caught(lambda: place(ask)))

    run_once("1", work)


def in_handler(place: Callable[[Ask], str]) -> None:
    def handle(event: Event) -> None:
        seen.append(event.key_for("charge"))
        seen.append(caught(lambda: place(ask)))

    options: Any = {"endpoint": f"tested-place-{place.__name__}"}
    receive = webhook(providers.STRIPE, secrets=SECRET, **options)(handle)
    sent = stripe()
    request = RequestFactory().post(
        "/", sent.body, "application/json", headers=sent.headers
    )
    assert receive(request).status_code == 200


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("work", [in_view, in_leased_view, in_task, in_handler])
def test_code_finds_its_operation_or_is_refused(
    work: Callable[[Callable[[Ask], str]], None], place: Callable[[Ask], str]
) -> None:
    """A key of its own for each try would be as good as none."""
    seen.clear()

    work(place)

    ours, *_, theirs = seen
    assert theirs == (ours if PLACES[place] else REFUSED)
    assert caught(ask) == REFUSED  # and nothing stays behind


def test_operation_does_not_stay_behind_a_callback_that_raises() -> None:
    def work() -> None:
        transaction.on_commit(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        run_once("1", work)

    assert caught(ask) == REFUSED


def test_refusal_says_what_to_write() -> None:
    with pytest.raises(
        NoOperation, match=r"pool\.submit\(charge, cart, key\)"
    ) as error:
        current_operation()

    assert "run_once(" in str(error.value)


def test_thread_beside_an_operation_has_operations_of_its_own() -> None:
    """It is told the same whether one runs beside it or not."""

    def inner() -> str:
        try:
            return run_once("inner", ask)
        finally:
            connections.close_all()

    def outer() -> list[str]:
        return [ask(), in_thread_of_its_own(inner), in_thread_of_its_own(ask)]

    ours, theirs, none = run_once("outer", outer, lease=timedelta(minutes=1))

    assert none == REFUSED
    assert theirs not in (ours, REFUSED)


def test_page_hands_keys_over_to_a_pool() -> None:
    page = Path(__file__).resolve().parents[3] / "docs/howto/run-a-task-once.md"
    start = '^```python\n(@idempotent_task\\(key=lambda order_id: f"notify:.*?)^```'
    flags = re.MULTILINE | re.DOTALL
    [code] = re.findall(start, page.read_text(encoding="utf-8"), flags)
    sent: list[tuple[str, str]] = []

    def send(name: str, order_id: int, *, key: str) -> None:
        sent.append((name, key))
        if len(sent) == 2:
            raise ZeroDivisionError

    names: dict[str, Any] = {
        "__name__": __name__,
        "idempotent_task": idempotent_task,
        "current_operation": current_operation,
        "ThreadPoolExecutor": ThreadPoolExecutor,
        "send": send,
    }
    exec(code, names)  # noqa: S102 - our own page
    with pytest.raises(ZeroDivisionError):
        names["notify"](7)
    assert names["notify"](7) == [None, None]

    assert len(sent) == 4
    assert len(set(sent)) == 2
