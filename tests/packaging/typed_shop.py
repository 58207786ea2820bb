"""What somebody who types strictly writes with the package; run by nobody but mypy.

`test_types` adds lines that mypy must refuse.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypedDict, assert_type, cast
from uuid import UUID

import httpx
import requests
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client, TestCase, TransactionTestCase
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from ninja import NinjaAPI, Schema
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

import django_idempotency
from django_idempotency.contrib import moving, ninja
from django_idempotency.contrib.httpx import (
    AsyncIdempotentTransport,
    IdempotentTransport,
)
from django_idempotency.contrib.requests import IdempotentAdapter
from django_idempotency.contrib.retries import (
    PossibleDuplicate,
    Retries,
    operation_key,
    possible_duplicate,
)
from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import OperationInFlight, OutcomeUnknown
from django_idempotency.http import Idempotency, IdempotentRequest, principal_of
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.rest_framework import IdempotentRequest as IdempotentApiRequest
from django_idempotency.tasks import (
    arun_once,
    current_operation,
    idempotent_task,
    run_once,
)
from django_idempotency.testing import (
    AsyncIdempotentClient,
    Call,
    IdempotencyTestMixin,
    IdempotentClient,
    assert_handler_safe,
    assert_idempotent,
    crash_everywhere,
    deliver,
    hammer,
    sending_keys,
)
from django_idempotency.testing.factories import (
    IdempotencyRecordFactory,
    ProcessedEventFactory,
)
from django_idempotency.testing.rest_framework import IdempotentAPIClient
from django_idempotency.webhooks import (
    Event,
    NotReady,
    PermanentError,
    WebhookView,
    on,
    providers,
    webhook,
)
from django_idempotency.webhooks.inbox import Step, process_next, rerun

SECRET = "whsec"  # noqa: S105 - nothing is signed with it


class Charge(TypedDict):
    id: str
    amount: int


def charge(key: str) -> Charge:
    return {"id": key, "amount": 990}


async def acharge(key: str) -> Charge:
    return charge(key)


def look_up(key: str) -> Charge | None:
    return None


def order() -> int:
    return 41


# Views


@login_required
@idempotent
def checkout(request: IdempotentRequest) -> HttpResponse:
    operation = request.idempotency
    assert_type(operation.key, str | None)
    assert_type(operation.record_id, UUID | None)
    assert_type(operation.key_for("charge"), str)
    return JsonResponse({"order": order()}, status=201)


@django_idempotency.idempotent(
    wait=timedelta(seconds=2), exclude={"card"}, keep_body=False
)
def refund(request: IdempotentRequest, order_id: int) -> HttpResponse:
    return HttpResponse(status=201)


@idempotent(lease=timedelta(minutes=1))
def leased(request: IdempotentRequest) -> HttpResponse:
    steps = request.idempotency
    assert_type(steps.call("charge", charge), Charge)
    assert_type(steps.call("hold", lambda key: charge(key), if_unknown="hold"), Charge)
    assert_type(steps.call("look", charge, if_unknown=look_up), Charge)
    assert_type(steps.call("again", lambda key: charge(key)["id"]), str)
    assert_type(steps.write("order", order), int)
    assert_type(steps.write("nothing", lambda: None), None)
    assert_type(steps.write("lines", lambda: [{"sku": "mug"}]), list[dict[str, str]])
    steps.write("mixed", lambda: {"order": 1, "lines": ["mug"], "note": None})
    steps.extend(timedelta(minutes=1))
    return HttpResponse(status=201)


@idempotent(policy=IdempotencyPolicy(lease=timedelta(minutes=1)))
async def asynchronous(request: IdempotentRequest) -> HttpResponse:
    steps = request.idempotency
    assert_type(await steps.acall("charge", acharge), Charge)
    assert_type(await steps.acall("look", acharge, if_unknown=look_up), Charge)
    assert_type(await steps.awrite("order", order), int)
    await steps.aextend()
    return HttpResponse(status=201)


@idempotent(intent_window=timedelta(seconds=30), lease=timedelta(minutes=1))
async def with_lease(request: IdempotentRequest) -> HttpResponse:
    return HttpResponse(status=201)


@method_decorator(idempotent(intent_window=timedelta(seconds=30)), name="post")
class Pay(View):
    def post(self, request: IdempotentRequest, order_id: int) -> HttpResponse:
        request.idempotency.about(f"order-{order_id}", label="order")
        return HttpResponse(request.idempotency.key_for("charge"))


class Send(View):
    @method_decorator(idempotent)
    def post(self, request: IdempotentRequest) -> HttpResponse:
        return HttpResponse(status=201)


def problem(request: HttpRequest, document: dict[str, Any]) -> HttpResponse | None:
    """IDEMPOTENCY_PROBLEM_RESPONSE."""
    return JsonResponse({"error": document["code"]}, status=document["status"])


old_store = moving.HandWritten(
    lambda request, key: moving.StoredAnswer(status=201, headers=(), body=b"{}"),
    claim=lambda request, key: order(),
    keep=lambda request, key, answer: answer.status,
    release=lambda request, key: None,
)
"""IDEMPOTENCY_MOVING_FROM."""

old_table = moving.DrfIdempotencykey(expiration=timedelta(hours=2), take_over=True)


def tenant(request: HttpRequest) -> str:
    return f"tenant:{principal_of(request)}"


class Orders(IdempotencyMixin, APIView):
    idempotency_policy = IdempotencyPolicy(required=False)

    def get_idempotency_policy(self) -> IdempotencyPolicy | None:
        return self.idempotency_policy

    def check_replay(self, request: Request) -> None:
        super().check_replay(request)

    def post(self, request: IdempotentApiRequest) -> Response:
        assert_type(request.idempotency, Idempotency)
        assert_type(self.idempotency, Idempotency)
        return Response({"key": request.idempotency.key_for("charge")}, status=201)


class Refunds(IdempotencyMixin, GenericViewSet[ProcessedEvent]):
    idempotency_policy = IdempotencyPolicy(intent_window=timedelta(seconds=30))

    def create(self, request: Request) -> Response:
        assert_type(self.idempotency.write("order", order), int)
        return Response({"key": self.idempotency.key}, status=201)


@api_view(["POST"])
@idempotent
def api_checkout(request: Request) -> Response:
    # The types of @api_view want a function that takes any request.
    operation = cast(IdempotentApiRequest, request).idempotency
    return Response({"key": operation.key_for("charge")}, status=201)


urlpatterns = [
    path("checkout/", checkout),
    path("orders/<int:order_id>/refund/", refund),
    path("orders/", Orders.as_view()),
]


# Tasks


@idempotent_task(key=lambda order_id: f"receipt:{order_id}", copies="skip")
def send_receipt(order_id: int) -> None:
    assert_type(current_operation(), Idempotency)


@idempotent_task(key=lambda: "rates", lease=timedelta(minutes=1))
async def fetch_rates() -> dict[str, float]:
    return {"EUR": 1.0}


def close_the_day() -> int | None:
    try:
        assert_type(run_once("day:1", order), int)
        assert_type(run_once("day:2", order, copies="raise"), int)
        return run_once("day:3", order, copies="skip", retention=timedelta(days=9))
    except (OperationInFlight, OutcomeUnknown):
        return None


async def close_the_night() -> None:
    async def total() -> Charge:
        return charge("night")

    lease = timedelta(minutes=1)
    assert_type(await arun_once("night:1", total, lease=lease), Charge)
    assert_type(
        await arun_once("night:2", total, copies="skip", lease=lease), Charge | None
    )


# Webhooks


def by_object(event: Event) -> str:
    return event.object_key


@webhook(
    providers.STRIPE,
    secrets=lambda: [SECRET],
    endpoint="shop",
    inbox=True,
    url="https://shop.example/stripe/",
    max_attempts=5,
    identity=by_object,
    ordered=True,
)
def stripe_events(event: Event) -> None:
    if event.attempt == 1:
        raise NotReady(after=timedelta(minutes=1))
    raise PermanentError(event.key_for("refund"))


class Payments(WebhookView):
    profile = providers.STRIPE
    secrets = SECRET

    @on("invoice.paid")
    def paid(self, event: Event) -> None:
        assert_type(event.row_id, UUID)


# Operations of django-ninja

operations = NinjaAPI()


class Wish(Schema):
    amount: int


@operations.post("/orders/", response={201: dict[str, int]})
@ninja.idempotent
def place(request: IdempotentRequest, wish: Wish) -> dict[str, int]:
    assert_type(request.idempotency, Idempotency)
    return {"order": wish.amount}


@operations.post("/slow-orders/")
@ninja.idempotent(lease=timedelta(minutes=1))
async def aplace(request: IdempotentRequest, wish: Wish) -> int:
    return await request.idempotency.awrite("order", lambda: wish.amount)


assert_type(place(cast("IdempotentRequest", None), Wish(amount=1)), dict[str, int])


# Programs that call a protected API

patient = Retries(tries=9, deadline=timedelta(minutes=5))


def pay(session: requests.Session) -> requests.Response:
    session.mount("https://api.example.com/", IdempotentAdapter(retries=patient))
    url = "https://api.example.com/payments/"
    headers = {"Idempotency-Key": operation_key("pay order 7", secret=SECRET)}
    answer = session.post(url, json={}, headers=headers)
    if first := possible_duplicate(answer):
        assert_type(first, PossibleDuplicate)
        assert_type(first.confirmation, Mapping[str, str])
        answer = session.post(url, json={}, headers=first.confirmation)
    return answer


def pay_with_httpx() -> httpx.Response:
    transport = IdempotentTransport(httpx.HTTPTransport(), retries=patient)
    with httpx.Client(transport=transport) as client:
        answer = client.post("https://api.example.com/payments/", json={})
        if first := possible_duplicate(answer):
            assert_type(first.age, timedelta)
            assert_type(first.about, str | None)
            headers = first.confirmation
            answer = client.post("https://api.example.com/", headers=headers)
        return answer


async def apay() -> httpx.Response:
    transport = AsyncIdempotentTransport(retries=patient, header="X-Key")
    async with httpx.AsyncClient(transport=transport) as client:
        return await client.post("https://api.example.com/payments/", json={})


# What waits


def held(path: str) -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.objects.filter(path=path).held()


def due() -> int:
    return ProcessedEvent.objects.due().count()


def work() -> Step:
    dead = ProcessedEvent.objects.dead().first()
    return process_next() if dead is None else rerun(dead, reason="mended")


# Tests


def test_checkout(client: Client, user: User) -> None:
    record = IdempotencyRecordFactory.create(user=user, held=True)
    assert_type(record, IdempotencyRecord)
    assert_type(ProcessedEventFactory.create(dead=True), ProcessedEvent)
    record.settle(applied=True, result="ch_1", reason="on the statement")
    assert_idempotent(
        client, Call(path="/checkout/"), effects=due, other_data={"cart": 8}
    )


EVENTS: list[dict[str, Any]] = [{"id": "evt_1"}, {"id": "evt_2"}]


def test_with_fixtures(
    idempotent_client: IdempotentClient,
    async_idempotent_client: AsyncIdempotentClient,
    idempotent_api_client: IdempotentAPIClient,
) -> None:
    clients: tuple[Client, AsyncClient, APIClient] = (
        idempotent_client,
        async_idempotent_client,
        idempotent_api_client,
    )
    client = clients[0]
    with sending_keys():
        client.post("/checkout/")
    hammer(client, lambda: Call(path="/checkout/"), copies=8, outside=["shop.charge"])
    assert_type(crash_everywhere(client, "/checkout/", {"cart": 7}), list[str])
    assert_handler_safe(stripe_events, EVENTS, max_orders=20)
    assert_handler_safe(Payments.as_view(), EVENTS)
    answer = deliver(client, "/stripe/", providers.STRIPE, SECRET, EVENTS[0])
    assert_type(answer, HttpResponseBase)
    assert_idempotent(idempotent_api_client, "/orders/", {}, copies=0)


class CheckoutTests(IdempotencyTestMixin, TransactionTestCase):
    def test_checkout(self) -> None:
        self.assertIdempotent("/checkout/", {"cart": 7}, effects=due, faults=False)
        self.hammer("/checkout/", copies=4)
        points = self.crashEverywhere(lambda: Call(path="/checkout/"), outside=["a.b"])
        assert_type(points, list[str])


class HandlerTests(IdempotencyTestMixin, TestCase):
    async def test_events(self) -> None:
        self.assertHandlerSafe(stripe_events, EVENTS, max_orders=20)
        headers = {"X-GitHub-Event": "push"}
        answer = self.deliver("/", providers.GITHUB, SECRET, {}, headers=headers)
        assert_type(answer, HttpResponseBase)
        await self.async_client.post("/checkout/")


def keep(response: HttpResponseBase) -> bool:
    return response.status_code < 400


policy = IdempotencyPolicy(keep=keep, retention=timedelta(days=2))
