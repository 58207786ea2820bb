"""Executions counted through real URLs and middleware, with the feature on and off."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.concurrency.answers import new_key, post
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


def order(request: HttpRequest) -> HttpResponse:
    Order.objects.create()
    return HttpResponse(status=201)


class Protected(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        Order.objects.create()
        return Response(status=201)


class Unprotected(Protected):
    idempotency_policy = None


urlpatterns: list[Any] = [
    path("function/on/", idempotent(order)),
    path("function/off/", order),
    path("rest/on/", Protected.as_view()),
    path("rest/off/", Unprotected.as_view()),
]


@pytest.mark.parametrize("kind", ["function", "rest"])
@pytest.mark.parametrize(
    ("switch", "executions"), [("on", 1), ("off", 2)], ids=["FR-109-on", "FR-109-off"]
)
def test_two_calls_with_one_key(kind: str, switch: str, executions: int) -> None:
    key = new_key()
    answers = [post(f"/{kind}/{switch}/", key).status for _ in range(2)]

    assert (answers, Order.objects.count()) == ([201, 201], executions)
