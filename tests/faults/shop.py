"""A small shop: one operation by each way in; also a URLconf.

Each charges a card and places one order. An order's amount is the operation's number, so
that orders are effects that were committed. The number comes in a header, which is no
part of any fingerprint, so that two customers can send the very same request.
"""

import asyncio
import fcntl
import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import OperationInFlight
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.tasks import current_operation, run_once
from django_idempotency.webhooks import Event, providers, webhook
from django_idempotency.webhooks.inbox import process_next
from tests.faults import counts, points, sabotage
from tests.faults.conditions import (
    BEFORE_THE_CALL_SECONDS,
    FOLDER,
    LEASE,
    LONG_VIEW_LEASE,
    LONG_VIEW_PROVIDER_SECONDS,
    PROVIDER_SECONDS,
    PROVIDER_URL,
    SABOTAGE,
    TENANTS,
    WAIT,
)
from tests.faults.provider import FORGETFUL, LEISURELY
from tests.support.deliveries import SECRET
from tests.testapp.models import Order

points.install()
if settings.IDEMPOTENCY_STATISTICS:
    counts.install()
sabotage.apply(os.environ.get(SABOTAGE, ""))


def charge(
    key: str, operation: int, *, at: str = "", seconds: float = PROVIDER_SECONDS
) -> str:
    """Return the provider's id of the charge."""
    request = urllib.request.Request(  # noqa: S310 - our own provider
        os.environ[PROVIDER_URL] + at,
        json.dumps({"operation": operation}).encode(),
        {"Idempotency-Key": key, "X-Fault": points.provider_fault()},
    )
    with (
        points.at_point("call", "charge"),
        urllib.request.urlopen(  # noqa: S310
            request, timeout=seconds
        ) as answer,
    ):
        identifier: str = json.load(answer)["id"]
        return identifier


def look_up(key: str) -> str | None:
    address = f"{os.environ[PROVIDER_URL]}/{key}"
    with (
        points.at_point("call", "look-up"),
        urllib.request.urlopen(address, timeout=PROVIDER_SECONDS) as answer,  # noqa: S310
    ):
        identifier: str | None = json.load(answer)["id"]
        return identifier


def place(operation: int) -> int:
    order = Order.objects.create(amount=operation)
    # More points to be hurt at.
    with points.at_point("write"):
        Order.objects.filter(pk=order.pk).update(amount=operation)
    return order.pk


def receipt(request: HttpRequest, order: int, charge_id: str) -> dict[str, Any]:
    return {
        "order": order,
        "charge": charge_id,
        "operation": operation_of(request),
        "user": request.user.pk,
    }


def operation_of(request: HttpRequest) -> int:
    return int(request.headers["X-Operation"])


@idempotent
def view(request: IdempotentRequest) -> HttpResponse:
    operation = operation_of(request)
    with points.execution_of(operation):
        order = place(operation)
        charge_id = charge(request.idempotency.key_for("charge"), operation)
        return JsonResponse(receipt(request, order, charge_id), status=201)


class HeaderAuthentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, None]:
        return request._request.user, None


class Orders(IdempotencyMixin, APIView):
    authentication_classes = [HeaderAuthentication]
    permission_classes = [IsAuthenticated]

    def post(self, request: Request) -> Response:
        django_request: Any = request._request
        operation = operation_of(django_request)
        with points.execution_of(operation):
            charge_id = charge(django_request.idempotency.key_for("charge"), operation)
            order = place(operation)
        return Response(receipt(django_request, order, charge_id), status=201)


def charge_and_place(
    request: IdempotentRequest, *, at: str = "", if_unknown: Any = "repeat"
) -> HttpResponse:
    operation, steps = operation_of(request), request.idempotency
    charge_id = steps.call(
        "charge", lambda key: charge(key, operation, at=at), if_unknown=if_unknown
    )
    order = steps.write("order", lambda: place(operation))
    return JsonResponse(receipt(request, order, charge_id), status=201)


leased = idempotent(lease=LEASE)(charge_and_place)
impatient_leased = idempotent(lease=LEASE, wait=timedelta(0))(charge_and_place)


@idempotent(lease=LEASE)
def looked_up(request: IdempotentRequest) -> HttpResponse:
    return charge_and_place(request, if_unknown=look_up)


@idempotent(lease=LONG_VIEW_LEASE)
def long_view(request: IdempotentRequest) -> HttpResponse:
    """Longer than its lease, and none of its steps is; nobody honours keys."""
    operation, steps = operation_of(request), request.idempotency
    for part in range(PARTS):
        steps.call(f"part {part}", pause_between_calls)
    charge_id = steps.call(
        "charge",
        lambda key: charge(
            key, operation, at=LEISURELY, seconds=LONG_VIEW_PROVIDER_SECONDS
        ),
        if_unknown=look_up,
    )
    order = steps.write("order", lambda: place(operation))
    return JsonResponse(receipt(request, order, charge_id), status=201)


PARTS = 3


def pause_between_calls(key: str) -> None:
    time.sleep(BEFORE_THE_CALL_SECONDS / PARTS)


@idempotent(lease=LEASE)
def held(request: IdempotentRequest) -> HttpResponse:
    """At a provider that honours no keys."""
    operation, steps = operation_of(request), request.idempotency
    with locked(operation, fcntl.LOCK_SH):
        charge_id = steps.call(
            "charge",
            lambda key: charge(key, operation, at=FORGETFUL),
            if_unknown="hold",
        )
    order = steps.write("order", lambda: place(operation))
    return JsonResponse(receipt(request, order, charge_id), status=201)


@contextmanager
def locked(operation: int, how: int) -> Iterator[None]:
    """While a process lives that may be about to call, nobody says that it hasn't."""
    with Path(os.environ[FOLDER], f"held-{operation}").open("w") as file:
        fcntl.flock(file, how)
        yield


def look(request: HttpRequest) -> HttpResponse:
    """A person looks at the record and at the provider's list, and fills in a form."""
    operation = operation_of(request)
    with locked(operation, fcntl.LOCK_EX):
        seen = IdempotencyRecord.objects.get(pk=request.headers["X-Record"])
        with urllib.request.urlopen(os.environ[PROVIDER_URL]) as answer:  # noqa: S310
            charges = json.load(answer)["charges"]
    found = [each["id"] for each in charges if each["operation"] == operation]
    return JsonResponse(
        {
            "attempts": seen.attempts,
            "created_at": seen.created_at.isoformat(),
            "result": found[0] if found else None,
        }
    )


def settle(request: HttpRequest) -> HttpResponse:
    """The form is sent; the same one perhaps twice, and perhaps much later."""
    form = json.loads(request.body)
    record = IdempotencyRecord.objects.get(pk=request.headers["X-Record"])
    record.attempts = form["attempts"]
    record.created_at = datetime.fromisoformat(form["created_at"])
    result = form["result"]
    try:
        record.settle(
            applied=result is not None, result=result, reason="the provider's list"
        )
    except ValueError:
        return HttpResponse(status=409)
    return HttpResponse()


@idempotent(lease=LEASE)
async def async_leased(request: IdempotentRequest) -> HttpResponse:
    operation, steps = operation_of(request), request.idempotency

    async def pay(key: str) -> str:
        try:
            return await sync_to_async(charge)(key, operation)
        except asyncio.CancelledError:
            points.tell({"cut": operation})
            raise

    charge_id = await steps.acall("charge", pay)
    order = await steps.awrite("order", lambda: place(operation))
    return JsonResponse(receipt(request, order, charge_id), status=201)


def task(request: HttpRequest) -> HttpResponse:
    """A queue delivers a task."""
    operation = operation_of(request)

    def work() -> Any:
        with points.execution_of(operation):
            charge_id = charge(current_operation().key_for("charge"), operation)
            return receipt(request, place(operation), charge_id)

    return _delivered(lambda: run_once(request.headers["Idempotency-Key"], work))


def leased_task(request: HttpRequest) -> HttpResponse:
    operation = operation_of(request)

    def work() -> Any:
        steps = current_operation()
        charge_id = steps.call("charge", lambda key: charge(key, operation))
        order = steps.write("order", lambda: place(operation))
        return receipt(request, order, charge_id)

    key = request.headers["Idempotency-Key"]
    return _delivered(lambda: run_once(key, work, lease=LEASE))


def _delivered(run: Callable[[], Any]) -> HttpResponse:
    try:
        return JsonResponse(run(), status=201)
    except OperationInFlight:
        return HttpResponse(status=409, headers={"Retry-After": "1"})


def unprotected(request: HttpRequest) -> HttpResponse:
    """What a project has that does the same without the package."""
    operation = operation_of(request)
    charge_id = charge(str(uuid4()), operation)
    return JsonResponse(receipt(request, place(operation), charge_id), status=201)


def work(request: HttpRequest) -> HttpResponse:
    """What a worker of the inbox does, once."""
    return HttpResponse(process_next().name)


def handle(event: Event) -> None:
    operation = int(event.id.removeprefix("evt_"))
    with points.execution_of(operation):
        charge(event.key_for("charge"), operation)
        place(operation)


stripe = replace(providers.STRIPE, acknowledge_within=2 * WAIT)


def receiver_of(tenant: int, *, endpoint: str) -> Any:
    """What a project has that makes the receivers of its tenants by one function."""

    @webhook(stripe, secrets=SECRET, endpoint=endpoint, inbox=True)
    def handle_for_tenant(event: Event) -> None:
        operation = int(event.id.removeprefix("evt_"))
        charge(event.key_for("charge"), operation)
        order = place(operation)
        reference = f"tenant {tenant} {order}"
        Order.objects.filter(pk=order).update(reference=reference)

    return handle_for_tenant


def receivers_of_tenants() -> list[Any]:
    try:
        return [receiver_of(tenant, endpoint="tenants") for tenant in range(TENANTS)]
    except ImproperlyConfigured:  # as the package says: names of their own
        return [
            receiver_of(tenant, endpoint=f"tenant-{tenant}")
            for tenant in range(TENANTS)
        ]


TENANT_RECEIVERS = receivers_of_tenants()


def tenant(request: HttpRequest) -> HttpResponse:
    """The address of the tenant whose operation it is."""
    response: HttpResponse = TENANT_RECEIVERS[operation_of(request) % TENANTS](request)
    return response


urlpatterns = [
    path("view/", view),
    path("drf/", Orders.as_view()),
    path("leased/", leased),
    path("impatient-leased/", impatient_leased),
    path("async-leased/", async_leased),
    path("asgi-leased/", async_leased),
    path("looked-up/", looked_up),
    path("long-view/", long_view),
    path("held/", held),
    path("look/", look),
    path("settle/", settle),
    path("unprotected/", unprotected),
    path("task/", task),
    path("leased-task/", leased_task),
    path("work/", work),
    path("inline/", webhook(stripe, secrets=SECRET, endpoint="inline")(handle)),
    path("tenant/", tenant),
    path(
        "inbox/", webhook(stripe, secrets=SECRET, endpoint="inbox", inbox=True)(handle)
    ),
]
