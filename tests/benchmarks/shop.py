"""One small order, unprotected, protected by us and by hand; also a URLconf."""

import hashlib
import json
import time
import uuid
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

TABLE = IdempotencyRecord._meta.db_table

CLAIM = (
    f"INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, state, effects,"  # noqa: S608
    " attempts, last_error, history, replays, created_at, expires_at) VALUES (%s, %s, %s, %s, %s,"
    " %s, 'in_flight', '{}', 1, '', '[]', 0, clock_timestamp(), clock_timestamp() + interval"
    " '48 hours') ON CONFLICT (id) DO NOTHING"
)
KEEP = (
    f"UPDATE {TABLE} SET state = 'kept', response_status = %s, response_headers = %s,"  # noqa: S608
    " response_body = %s, completed_at = clock_timestamp() WHERE id = %s"
)
LOOK = (
    "SELECT scope, key, fingerprint, state, response_status, response_headers,"  # noqa: S608
    f" response_body FROM {TABLE} WHERE id = %s"
)
FLOOR_SQL = ["BEGIN", CLAIM, "(the view's own)", KEEP, "COMMIT", LOOK]
"""What the rest is measured by: the statements of somebody who knows what he wants."""


def place(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(amount=json.loads(request.body)["amount"])
    return JsonResponse({"order": order.pk}, status=201)


def place_slowly(request: HttpRequest) -> HttpResponse:
    """What costs five milliseconds, whatever they are spent on."""
    time.sleep(0.005)
    return place(request)


def place_in_steps(request: Any) -> HttpResponse:
    paid = request.idempotency.call("charge", lambda key: {"id": key})
    order = request.idempotency.write("order", lambda: Order.objects.create().pk)
    return JsonResponse({"order": order, "charge": paid["id"]}, status=201)


def nothing(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def by_hand(request: HttpRequest) -> HttpResponse:
    """A first call; it expects no repeat."""
    key = request.headers["Idempotency-Key"]
    record_id = uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16])
    digest = hashlib.sha256(request.body).hexdigest()
    scope = ["anonymous", key, "POST", request.path, digest]
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(CLAIM, [record_id, *scope])
        response = place(request)
        headers = json.dumps(list(response.headers.items()))
        answer: list[Any] = [response.status_code, headers, response.content]
        cursor.execute(KEEP, [*answer, record_id])
    return response


def repeat_by_hand(request: HttpRequest) -> HttpResponse:
    """A repeat; it expects that there was a first call."""
    key = request.headers["Idempotency-Key"]
    record_id = uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16])
    digest = hashlib.sha256(request.body).hexdigest()
    with connection.cursor() as cursor:
        cursor.execute(LOOK, [record_id])
        _, _, kept_digest, state, status, headers, body = cursor.fetchone()
    if (kept_digest, state) != (digest, "kept"):
        return HttpResponse(status=422)
    return HttpResponse(bytes(body), status=status, headers=dict(json.loads(headers)))


def place_parsed(data: Any) -> Response:
    order = Order.objects.create(amount=data["amount"])
    return Response({"order": order.pk}, status=201)


class PlainOrders(APIView):
    authentication_classes = ()

    @transaction.atomic
    def post(self, request: Request) -> Response:
        return place_parsed(request.data)


class Orders(IdempotencyMixin, APIView):
    authentication_classes = ()

    def post(self, request: Request) -> Response:
        return place_parsed(request.data)


def at(route: str, view: Any) -> Any:
    return path(route, csrf_exempt(view))


urlpatterns = [
    at("plain/", transaction.atomic(place)),
    at("plain-slow/", transaction.atomic(place_slowly)),
    at("by-hand/", by_hand),
    at("repeat-by-hand/", repeat_by_hand),
    at("protected/", idempotent(place)),
    at("protected-slow/", idempotent(wait=timedelta(seconds=20))(place_slowly)),
    at("leased/", idempotent(lease=timedelta(minutes=1))(place_in_steps)),
    at("empty/", transaction.atomic(nothing)),
    at("optional/", idempotent(required=False)(nothing)),
    at("drf-plain/", PlainOrders.as_view()),
    at("drf/", Orders.as_view()),
]
