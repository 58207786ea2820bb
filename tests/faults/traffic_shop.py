"""The views that are kept busy; also a URLconf.

Each writes one order, whose amount is the request's number: orders are executions that
were committed.
"""

import json
from datetime import timedelta

from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from tests.testapp.models import Order

LEASE = timedelta(seconds=2)

SLOW = 20260102
"""The lock in the database that holds the slow view."""


def _write_order(request: HttpRequest) -> int:
    amount = json.loads(request.body)["amount"]
    order: int = Order.objects.create(amount=amount).pk
    return order


def _placed(order: int) -> HttpResponse:
    return JsonResponse({"order": order}, status=201)


def unprotected(request: HttpRequest) -> HttpResponse:
    return _placed(_write_order(request))


@idempotent
def atomic(request: IdempotentRequest) -> HttpResponse:
    return _placed(_write_order(request))


@idempotent(lease=LEASE)
def leased(request: IdempotentRequest) -> HttpResponse:
    return _placed(request.idempotency.write("order", lambda: _write_order(request)))


@idempotent(wait=timedelta(seconds=1))
def slow(request: IdempotentRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", [SLOW])
    return _placed(_write_order(request))


urlpatterns = [
    path("unprotected/", unprotected),
    path("atomic/", atomic),
    path("leased/", leased),
    path("slow/", slow),
]
