"""What somebody who types strictly writes with the package; run by nobody but mypy.

`test_types` adds lines that mypy must refuse.
"""

from datetime import timedelta
from typing import TypedDict, assert_type, cast
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.test import Client
from django.urls import path
from ninja import NinjaAPI, Schema
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

import django_idempotency
from django_idempotency.contrib import ninja
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
from django_idempotency.testing import Call, assert_idempotent
from django_idempotency.testing.factories import (
    IdempotencyRecordFactory,
    ProcessedEventFactory,
)
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


def keep(response: HttpResponseBase) -> bool:
    return response.status_code < 400


policy = IdempotencyPolicy(keep=keep, retention=timedelta(days=2))
