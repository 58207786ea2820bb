"""REST framework's part of `views`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rest_framework.decorators import action, api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin


class OrderAPI(APIView):
    def post(self, request: Request) -> Response:
        return Response()


class ByMixin(IdempotencyMixin, OrderAPI): ...


class ByMixinSometimes(ByMixin):
    idempotency_policy = None


@api_view(["POST"])
@idempotent(keep_errors=True)
def rest_function(request: Request) -> Response:
    return Response()


class Orders(ViewSet):
    @action(detail=True, methods=["post"])
    @idempotent
    def pay(self, request: Request, pk: Any) -> Response:
        return Response()


class OrderOnPost(OrderAPI):
    @idempotent
    def post(self, request: Request) -> Response:
        return Response()


class ShortRetention(ByMixin):
    idempotency_policy = IdempotencyPolicy(retention=timedelta(hours=1))


RIGHT = {
    "rest-mixin": ByMixin.as_view(),
    "rest-mixin-sometimes": ByMixinSometimes.as_view(),
    "rest-function": rest_function,
    "rest-action": Orders.as_view({"post": "pay"}),
    "rest-post": OrderOnPost.as_view(),
    "rest-unprotected": OrderAPI.as_view(),
}
WRONG = {"rest-short-retention": ShortRetention.as_view()}
