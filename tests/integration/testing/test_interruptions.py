"""`assert_idempotent` lets a call fail at each point, and counts after the retry."""

import re
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import requests
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.testing import Call, assert_idempotent
from tests.support.ordering import orders, signed_in_client
from tests.testapp.models import Order

PAGE = (
    Path(__file__).resolve().parents[3] / "docs/howto/test-your-endpoint.md"
).read_text(encoding="utf-8")
FENCED = re.MULTILINE | re.DOTALL

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]


class Bank(BaseHTTPRequestHandler):
    """Charges once per key, and without a key each time."""

    charges: list[str] = []

    def do_POST(self) -> None:
        self.charge(self.headers.get("Idempotency-Key", ""))
        self.send_response(204)
        self.end_headers()

    @classmethod
    def charge(cls, key: str = "") -> str:
        if not key or key not in cls.charges:
            cls.charges.append(key)
        return "ch_1"

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def open_bank() -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Bank) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        Counter.address = f"http://127.0.0.1:{server.server_port}/"
        yield
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def bank(open_bank: None) -> None:
    Bank.charges.clear()


# Reading the authorities of the system takes longer than all the rest of a call.
TLS = ssl.create_default_context()


class Counter:
    """Where the bank is asked over HTTP."""

    address = ""

    @classmethod
    def by_httpx(cls, key: str) -> str:
        with httpx.Client(verify=TLS, trust_env=False) as client:
            client.post(cls.address, headers={"Idempotency-Key": key} if key else {})
        return "ch_1"

    @classmethod
    def by_requests(cls, key: str) -> str:
        with requests.Session() as session:
            session.trust_env = False
            session.post(cls.address, headers={"Idempotency-Key": key} if key else {})
        return "ch_1"

    @classmethod
    async def by_async_httpx(cls, key: str) -> str:
        async with httpx.AsyncClient(verify=TLS, trust_env=False) as client:
            await client.post(cls.address, headers={"Idempotency-Key": key})
        return "ch_1"


def place() -> int:
    order: int = Order.objects.create().pk
    return order


CREATED = partial(JsonResponse, {"thank": "you"}, status=201)
DECLINED = partial(JsonResponse, {"sorry": True}, status=402)


# What is right


def charges_and_places(request: Any, **options: Any) -> HttpResponse:
    request.idempotency.call("charge", Bank.charge, **options)
    request.idempotency.write("order", place)
    return CREATED()


def holds(request: Any) -> HttpResponse:
    return charges_and_places(request, if_unknown="hold")


def looks_up(request: Any) -> HttpResponse:
    return charges_and_places(
        request, if_unknown=lambda key: "ch_1" if key in Bank.charges else None
    )


def passes_key_on(request: Any) -> HttpResponse:
    Bank.charge(request.idempotency.key_for("charge"))
    request.idempotency.write("order", place)
    return CREATED()


def charges_over_http(request: Any, by: str = "by_httpx") -> HttpResponse:
    request.idempotency.call("charge", getattr(Counter, by))
    request.idempotency.write("order", place)
    return CREATED()


def charges_by_requests(request: Any) -> HttpResponse:
    return charges_over_http(request, "by_requests")


def answers_503_when_in_doubt(request: Any) -> HttpResponse:
    try:
        return charges_and_places(request)
    except TimeoutError:
        return HttpResponse(status=503)


async def charges_asynchronously(request: Any) -> HttpResponse:
    await request.idempotency.acall("charge", Counter.by_async_httpx)
    await request.idempotency.awrite("order", place)
    return CREATED()


class RestPurchase(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        request.idempotency.call("charge", Bank.charge)  # type: ignore[attr-defined]
        place()
        return Response({"thank": "you"}, status=201)


# What is not


def calls_without_key(request: Any) -> HttpResponse:
    Bank.charge()
    request.idempotency.write("order", place)
    return CREATED()


def calls_over_http_without_key(request: Any) -> HttpResponse:
    Counter.by_requests("")
    request.idempotency.write("order", place)
    return CREATED()


def takes_doubt_for_decline(request: Any) -> HttpResponse:
    try:
        return charges_and_places(request)
    except TimeoutError:
        return DECLINED()


def takes_doubt_on_the_wire_for_decline(request: Any) -> HttpResponse:
    try:
        Counter.by_requests(request.idempotency.key_for("charge"))
    except requests.ConnectionError:
        return DECLINED()
    request.idempotency.write("order", place)
    return CREATED()


def writes_outside_of_write(request: Any) -> HttpResponse:
    request.idempotency.call("charge", Bank.charge)
    place()
    return CREATED()


def writes_in_a_call(request: Any) -> HttpResponse:
    request.idempotency.call("charge", lambda key: (Bank.charge(key), place())[0])
    return CREATED()


async def writes_asynchronously(request: Any) -> HttpResponse:
    await request.idempotency.acall("charge", Counter.by_async_httpx)
    await sync_to_async(place)()
    return CREATED()


def dies_when_run_again(request: Any) -> HttpResponse:
    """Its retry finds what the failed attempt has left, and takes it for an error."""
    Order.objects.create(reference=request.headers["Idempotency-Key"])
    return charges_and_places(request)


LEASE = timedelta(minutes=1)
SHAPES: dict[str, Callable[[Any], Any]] = {
    "atomic": idempotent,
    "leased": idempotent(lease=LEASE),
}
ATOMIC, LEASED = ["atomic"], ["leased"]
BOTH = [*ATOMIC, *LEASED]
RIGHT: list[tuple[Callable[..., Any], list[str]]] = [
    (charges_and_places, BOTH),
    (holds, BOTH),
    (looks_up, BOTH),
    (passes_key_on, BOTH),
    (charges_over_http, BOTH),
    (charges_by_requests, BOTH),
    (answers_503_when_in_doubt, BOTH),
    (charges_asynchronously, LEASED),
    (writes_outside_of_write, ATOMIC),
]
AGAIN = "attempt and retry together moved effects() from"
WRONG: list[tuple[Callable[..., Any], list[str], str]] = [
    (calls_without_key, BOTH, AGAIN),
    (calls_over_http_without_key, BOTH, AGAIN),
    (takes_doubt_for_decline, BOTH, "the retry was answered with 402"),
    (takes_doubt_on_the_wire_for_decline, BOTH, "the retry was answered with 402"),
    (writes_outside_of_write, LEASED, AGAIN),
    (writes_in_a_call, LEASED, AGAIN),
    (writes_asynchronously, LEASED, AGAIN),
    (dies_when_run_again, LEASED, "the retry was answered with 500"),
]


ROUTES = [
    *[(view, shape) for view, shapes in RIGHT for shape in shapes],
    *[(view, shape) for view, shapes, _ in WRONG for shape in shapes],
]
urlpatterns = [
    *[path(f"{shape}/{view.__name__}/", SHAPES[shape](view)) for view, shape in ROUTES],
    path("atomic/rest/", RestPurchase.as_view()),
]
RIGHT_PATHS = [
    "/atomic/rest/",
    *[f"/{shape}/{view.__name__}/" for view, shapes in RIGHT for shape in shapes],
]
WRONG_PATHS = [
    (f"/{shape}/{view.__name__}/", says)
    for view, shapes, says in WRONG
    for shape in shapes
]


def effects() -> tuple[int, int]:
    return orders(), len(Bank.charges)


def check(where: str, *, client: Client | None = None, **options: Any) -> None:
    assert_idempotent(
        client or signed_in_client(),
        Call(path=where, data={"cart": 7}),
        other_data={"cart": 8},
        copies=0,
        **{"effects": effects, **options},
    )


@pytest.mark.parametrize("where", RIGHT_PATHS)
def test_view_that_is_right_stays_so_wherever_it_fails(where: str) -> None:
    check(where)


@pytest.mark.parametrize(("where", "says"), WRONG_PATHS)
def test_view_that_a_failure_makes_do_it_twice_or_not_at_all_is_found(
    where: str, says: str
) -> None:
    with pytest.raises(AssertionError, match=r"^When the ") as caught:
        check(where)

    assert says in str(caught.value)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("where", "says"), WRONG_PATHS)
def test_no_such_view_is_found_without_faults(where: str, says: str) -> None:
    """Negative control: everything else is right about them."""
    check(where, faults=False)


def documented(language: str, start: str) -> str:
    """The one block of that language which begins so on the page."""
    [code] = re.findall(rf"^```{language}\n({re.escape(start)}.*?)^```", PAGE, FENCED)
    return str(code)


def test_page_shows_what_is_said_of_its_view() -> None:
    objects = SimpleNamespace(create=lambda charge: Order.objects.create())
    names: dict[str, Any] = {
        "__name__": __name__,
        "idempotent": idempotent,
        "timedelta": timedelta,
        "JsonResponse": JsonResponse,
        "provider": Bank,
        "Order": SimpleNamespace(objects=objects),
    }
    exec(documented("python", "@idempotent(lease="), names)  # noqa: S102 - our page
    urlpatterns.append(path("documented/", names["checkout"]))
    try:
        with pytest.raises(AssertionError) as caught:
            check("/documented/")
    finally:
        urlpatterns.pop()

    said = f"AssertionError: {caught.value}".split()
    shown = documented("text", "AssertionError").split()
    assert said[: len(shown)] == shown


def test_each_point_is_failed_at_once() -> None:
    """Counted by the keys under which the view runs, and by its runs."""
    runs: list[str] = []

    def view(request: HttpRequest) -> HttpResponse:
        runs.append(request.headers["Idempotency-Key"])
        return charges_and_places(request)

    urlpatterns.append(path("counted/", SHAPES["leased"](view)))
    try:
        check("/counted/")
    finally:
        urlpatterns.pop()

    # One key for all that comes before; then before and in each step, and at the end.
    assert [runs.count(key) for key in dict.fromkeys(runs)] == [1, 2, 2, 2, 2, 2]


def test_process_does_not_stay_as_it_was_for_the_failure() -> None:
    client = signed_in_client()
    with pytest.raises(AssertionError):
        check("/leased/writes_outside_of_write/", client=client)

    assert client.raise_request_exception is True
    before = effects()
    Call(path="/leased/charges_and_places/").send(client, "another")
    assert effects() == (before[0] + 1, before[1] + 1)


def test_effects_that_can_not_be_counted_are_refused() -> None:
    with pytest.raises(AssertionError, match="pass faults=False"):
        check("/atomic/charges_and_places/", effects=lambda: str(effects()))
