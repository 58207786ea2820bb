"""The views that the storms hit, in threads and in server processes; also a URLconf.

Each one goes through the gate and then writes one order, so that orders are executions
that were committed. `scene` says what else happens in this process.
"""

import json
import os
import signal
import threading
from collections import deque
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI, Schema

from django_idempotency.contrib import ninja
from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from tests.concurrency.servers import SIGNAL_VARIABLE
from tests.support.threads import go_through_the_gate
from tests.testapp.models import Order


class Scene:
    """What happens in the views of this process."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        """How often a view was entered, whatever became of it."""
        self.failures: deque[Exception] = deque()
        """What the next executions raise, after the order was written."""
        self.pauses: deque[threading.Event] = deque()
        """What the next executions wait for, each for one, before they end."""
        self.rollbacks = 0
        """How many of the next transactions around a view are rolled back."""

    def enter(self) -> None:
        with self.lock:
            self.calls += 1

    def leave(self) -> None:
        if name := os.environ.get(SIGNAL_VARIABLE):
            # To this thread: a signal to the process may be taken by another one, and
            # the view would go on, and commit, until that is scheduled.
            signal.pthread_kill(threading.get_ident(), signal.Signals[name])
        with self.lock:
            failure = self.failures.popleft() if self.failures else None
            pause = self.pauses.popleft() if self.pauses else None
        if pause is not None:
            pause.wait()
        if failure is not None:
            raise failure


scene = Scene()


def place(request: HttpRequest) -> HttpResponse:
    scene.enter()
    go_through_the_gate()
    amount = json.loads(request.body)["amount"]
    order = Order.objects.create(amount=amount)
    scene.leave()
    return JsonResponse({"order": order.pk, **_seen(request)}, status=201)


def _seen(request: HttpRequest) -> dict[str, Any]:
    idempotency = getattr(request, "idempotency", None)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('lock_timeout'), current_setting('statement_timeout')"
        )
        return {
            "limits": " ".join(cursor.fetchone()),
            "charge_key": idempotency and idempotency.key_for("charge"),
        }


@idempotent
def in_three_steps(request: IdempotentRequest) -> HttpResponse:
    """Three saves of an autocommit project, with pauses between them."""
    for number in range(2):
        Order.objects.create(amount=number)
        go_through_the_gate()
    return place(request)


@transaction.atomic
def in_a_transaction(request: IdempotentRequest) -> HttpResponse:
    """The project's own transaction around the protected view, held at the gate."""
    response = inner(request)
    go_through_the_gate()
    if scene.rollbacks:
        scene.rollbacks -= 1
        transaction.set_rollback(True)
    return response


@idempotent
def held(request: IdempotentRequest) -> HttpResponse:
    go_through_the_gate()
    return HttpResponse(status=201)


@idempotent
def refused(request: IdempotentRequest) -> HttpResponse:
    return HttpResponse(status=503)


@idempotent
def inner(request: IdempotentRequest) -> HttpResponse:
    order = Order.objects.create()
    return JsonResponse({"order": order.pk}, status=201)


@idempotent(lease=timedelta(minutes=1))
def leased(request: IdempotentRequest) -> HttpResponse:
    order = request.idempotency.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({"order": order}, status=201)


api = NinjaAPI(urls_namespace="storm")


class Wish(Schema):
    amount: int


class Placed(Schema):
    order: int
    amount: int


@api.post("/orders/", response={201: Placed})
@ninja.idempotent
def operation(request: IdempotentRequest, wish: Wish) -> Placed:
    go_through_the_gate()
    order = Order.objects.create(amount=wish.amount)
    return Placed(order=order.pk, amount=order.amount)


WAITS = {"impatient": 0, "hasty": 0.3, "fairly-patient": 1.5, "patient": 4}
"""How many seconds a copy waits, by the place."""

urlpatterns = [
    path("unprotected/", csrf_exempt(place)),
    path("protected/", csrf_exempt(idempotent(place))),
    path("ninja/", api.urls),
    *(
        path(f"{name}/", csrf_exempt(idempotent(wait=timedelta(seconds=wait))(place)))
        for name, wait in WAITS.items()
    ),
    path("in-three-steps/", csrf_exempt(in_three_steps)),
    path("in-a-transaction/", csrf_exempt(in_a_transaction)),
]
