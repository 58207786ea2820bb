"""The leased views that processes are killed in; also a URLconf and its middleware.

A request may say at which of its points a signal ends its process. The points are
before and after each statement, each COMMIT and each outside call.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils import timezone

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from tests.testapp.models import Order

__all__ = ["BANK_VARIABLE", "LEASE", "LONG_LEASE", "Doom", "ask", "urlpatterns"]

BANK_VARIABLE = "CHECKOUT_BANK"
"""Environment variable: the address of the bank."""

LEASE = timedelta(seconds=3)
LONG_LEASE = timedelta(seconds=30)


class Points:
    """The points that one request passes, in their order."""

    def __init__(self, at: int | None, fatal: signal.Signals) -> None:
        self.at = at
        self.fatal = fatal
        self.passed: list[str] = []

    def passing(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) - 1 == self.at:
            os.kill(os.getpid(), self.fatal)

    def around(self, name: str, act: Callable[..., Any], *args: Any) -> Any:
        self.passing(f"before {name}")
        result = act(*args)
        self.passing(f"after {name}")
        return result

    def statement(self, execute: Any, sql: str, *args: Any) -> Any:
        return self.around(sql.partition(" ")[0], execute, sql, *args)


class Doom:
    """Middleware: reads from the headers where to end, and answers what was passed."""

    points = Points(None, signal.SIGKILL)

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        at = request.headers.get("Doom-At")
        fatal = signal.Signals[request.headers.get("Doom-Signal", "SIGKILL")]
        # Each request has a process of its own.
        Doom.points = points = Points(None if at is None else int(at), fatal)
        wrapped: Any = connection
        wrapped._commit = partial(points.around, "COMMIT", connection._commit)  # type: ignore[attr-defined]
        with connection.execute_wrapper(points.statement):
            response = self.get_response(request)
        response.headers["Doom-Points"] = json.dumps(points.passed)
        return response


def ask(method: str, path: str, key: str = "", number: int = 0) -> Any:
    """Send a request to the bank."""
    address = urlsplit(os.environ[BANK_VARIABLE]).netloc
    bank = http.client.HTTPConnection(address, timeout=30)
    try:
        body = json.dumps({"number": number}) if method == "POST" else None
        bank.request(method, path, body, {"Idempotency-Key": key})
        return json.loads(bank.getresponse().read())
    finally:
        bank.close()


def outside(service: str, number: int, key: str) -> str:
    answer = Doom.points.around(service, ask, "POST", f"/{service}", key, number)
    receipt: str = answer["receipt"]
    return receipt


def look_up(key: str) -> str | None:
    receipt: str | None = ask("GET", f"/{key}")["receipt"]
    return receipt


def write_order(number: int) -> int:
    order: int = Order.objects.create(amount=number).pk
    return order


def checkout(request: IdempotentRequest, service: str, **options: Any) -> HttpResponse:
    number = json.loads(request.body)["number"]
    steps = request.idempotency
    charge = steps.call("charge", partial(outside, service, number), **options)
    order = steps.write("order", partial(write_order, number))
    steps.call("mail", partial(outside, "mails", number))
    return JsonResponse({"charge": charge, "order": order}, status=201)


leased = idempotent(lease=LEASE, wait=timedelta(0))


@leased
def repeated(request: IdempotentRequest) -> HttpResponse:
    return checkout(request, "charges")


@leased
def held(request: IdempotentRequest) -> HttpResponse:
    return checkout(request, "forgetful-charges", if_unknown="hold")


@leased
def looked_up(request: IdempotentRequest) -> HttpResponse:
    return checkout(request, "forgetful-charges", if_unknown=look_up)


@leased
def unremembered(request: IdempotentRequest) -> HttpResponse:
    """What a project has that does the same without steps and without derived keys."""
    number = json.loads(request.body)["number"]
    charge = outside("charges", number, str(uuid.uuid4()))
    order = write_order(number)
    return JsonResponse({"charge": charge, "order": order}, status=201)


@idempotent(lease=LONG_LEASE, wait=timedelta(0))
def long(request: IdempotentRequest) -> HttpResponse:
    return checkout(request, "charges")


def clock(request: HttpRequest) -> HttpResponse:
    """Say by how much this process is ahead of the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float")
        right = cursor.fetchone()[0]
    mean = (time.time() + timezone.now().timestamp()) / 2
    return HttpResponse(f"{mean - right:.3f}")


urlpatterns = [
    path("clock/", clock),
    path("repeated/", repeated),
    path("held/", held),
    path("looked-up/", looked_up),
    path("unremembered/", unremembered),
    path("long/", long),
]
