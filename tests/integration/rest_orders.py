"""Protected REST framework views, as a project would write them."""

from __future__ import annotations

from typing import Any

from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order


def placed(request: Request) -> Response:
    data: Any = request.data
    order = Order.objects.create(amount=data["amount"])
    return Response({"order": order.pk}, status=201)


class RestOrder(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        return placed(request)


@api_view(["POST"])
@idempotent
def rest_order(request: Request) -> Response:
    return placed(request)
