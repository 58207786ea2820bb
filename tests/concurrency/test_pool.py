"""With psycopg's pool: storms on few connections, and none that is not given back.

Requests go through the handler that a server calls, not through Django's test client,
which keeps the connections that a server would close.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.engine import atomic as engine
from django_idempotency.engine.gate import Gate
from django_idempotency.http import IdempotentRequest
from tests.support.cases import cases
from tests.support.client import Answer, new_key, told
from tests.support.threads import (
    AT_THE_GATE,
    TIMEOUT,
    connections_in_use,
    gate_closed,
    go_through_the_gate,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("pool_of_five"),
]

REFUSED, RAISES = 2, 3
"""Amounts that the views don't like."""

PLENTY = timedelta(seconds=TIMEOUT)
HASTE = timedelta(milliseconds=300)

SHAPES = ["atomic", "leased"]


def place(request: HttpRequest) -> HttpResponse:
    amount = json.loads(request.body)["amount"]
    go_through_the_gate()
    if amount == RAISES:
        raise ValueError
    Order.objects.create(amount=amount)
    return JsonResponse({}, status=503 if amount == REFUSED else 201)


def place_in_steps(request: IdempotentRequest) -> HttpResponse:
    request.idempotency.call("look", lambda key: go_through_the_gate())
    return place(request)


def for_tenant(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Sets whose rows the session may see, and says afterwards who it is for."""

    def protected(request: HttpRequest) -> HttpResponse:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('shop.tenant', %s, false)", [new_key()])
            (tenant,) = cursor.fetchone()
        response = view(request)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('shop.tenant', true)")
            response["Is-Still-Itself"] = str(cursor.fetchone() == (tenant,))
        return response

    return protected


urlpatterns = [
    path(f"{name}/", csrf_exempt(view))
    for name, view in (
        ("tenants-atomic", for_tenant(idempotent(wait=PLENTY)(place))),
        (
            "tenants-leased",
            for_tenant(
                idempotent(wait=PLENTY, lease=timedelta(minutes=1))(place_in_steps)
            ),
        ),
        ("atomic", idempotent(wait=PLENTY)(place)),
        ("leased", idempotent(wait=PLENTY, lease=timedelta(minutes=1))(place_in_steps)),
        ("hasty-atomic", idempotent(wait=HASTE)(place)),
        (
            "hasty-leased",
            idempotent(wait=HASTE, lease=timedelta(minutes=1))(place_in_steps),
        ),
    )
]


class Server:
    """Serves in threads of its own, as a server does, and closes nothing by itself."""

    def __init__(self) -> None:
        self.handle = WSGIHandler()
        self.threads = ThreadPoolExecutor(32)

    def serve(self, path: str, key: str, amount: int = 1) -> Future[Answer]:
        return self.threads.submit(self._serve, path, key, amount)

    def _serve(self, path: str, key: str, amount: int) -> Answer:
        request = RequestFactory().post(
            path,
            {"amount": amount},
            content_type="application/json",
            headers={"Idempotency-Key": key},
        )
        response = self.handle(request.environ, lambda *started: print)
        body = b"".join(response)
        response.close()
        return Answer(
            status=response.status_code, headers=dict(response.headers), body=body
        )


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    with server.threads:
        connection.close()
        yield server


@pytest.mark.parametrize("shape", SHAPES)
def test_storms_on_few_connections_make_one_order_each(
    server: Server, shape: str
) -> None:
    keys = [new_key() for _ in range(10)]

    storm = [server.serve(f"/{shape}/", key) for key in keys for _ in range(16)]
    answers = [each.result(TIMEOUT) for each in storm]

    assert told(answers) == {"201": 10, "201 replayed": 150}
    until(lambda: connections_in_use() == 0)
    assert Order.objects.count() == 10


@pytest.mark.direct  # PgBouncer exchanges sessions itself, after each transaction
@pytest.mark.parametrize("shape", SHAPES)
def test_session_that_the_project_has_set_up_is_not_exchanged(
    server: Server, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """While a copy waits or calls outside: another session may be another tenant's."""
    monkeypatch.setattr(engine, "gate", Gate())
    key = new_key()
    with gate_closed() as gate:
        leader = server.serve(f"/tenants-{shape}/", key)
        until_waiting(1, AT_THE_GATE)
        connection.close()
        copies = [server.serve(f"/tenants-{shape}/", key) for _ in range(8)]
        time.sleep(0.5)  # long enough that some wait
        gate.open()
        answers = [each.result(TIMEOUT) for each in (leader, *copies)]

    assert told(answers) == {"201": 1, "201 replayed": 8}
    assert [each.headers["Is-Still-Itself"] for each in answers] == ["True"] * 9


@pytest.mark.parametrize("shape", SHAPES)
@cases(
    "amounts, word",
    {
        "first": ([1], "201"),
        "replay": ([1, 1], "201 replayed"),
        "mismatch": ([1, 5], "422 key-reused"),
        "refused": ([REFUSED], "503"),
        "raises": ([RAISES], "500"),
    },
)
def test_connection_is_given_back(
    server: Server, shape: str, amounts: list[int], word: str
) -> None:
    key = new_key()
    words = [
        server.serve(f"/{shape}/", key, amount).result(TIMEOUT).word
        for amount in amounts
    ]

    assert words[-1] == word
    until(lambda: connections_in_use() == 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_connections_of_a_copy_in_flight_are_given_back(
    server: Server, shape: str
) -> None:
    key = new_key()
    with gate_closed() as gate:
        leader = server.serve(f"/hasty-{shape}/", key)
        until_waiting(1, AT_THE_GATE)
        connection.close()
        copy = server.serve(f"/hasty-{shape}/", key).result(TIMEOUT)
        gate.open()

    assert (leader.result(TIMEOUT).word, copy.word) == ("201", "409 in-flight")
    until(lambda: connections_in_use() == 0)


def test_connection_that_is_kept_would_be_seen(server: Server) -> None:
    server.threads.submit(connection.ensure_connection).result(TIMEOUT)

    until(lambda: connections_in_use() == 1)
