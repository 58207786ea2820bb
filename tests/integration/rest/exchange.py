"""A view that orders, a request with a key, and what there is to see in its answer."""

from typing import Any

from django.contrib.auth.models import User
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ModelSerializer
from rest_framework.test import APIClient
from rest_framework.views import APIView

from tests.factories import UserFactory
from tests.testapp.models import Order

KEY = "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"
"""Unguessable, so that a view without access checks takes it from a guest."""


class OrderSerializer(ModelSerializer[Order]):
    class Meta:
        model = Order
        fields = ["id", "amount"]


def order(request: Request, /, **route: str) -> Response:
    return Response({"order": Order.objects.create().pk}, status=201)


class OrderView(APIView):
    """Nothing protects it until a test does, and it looks at nothing of the request."""

    def post(self, request: Request, **route: str) -> Response:
        return order(request)


def user(username: str = "ada") -> User:
    return UserFactory.create(username=username)


def signed_in(username: str = "ada") -> APIClient:
    client = APIClient(raise_request_exception=False)
    client.force_login(user(username))
    return client


def send(
    client: APIClient,
    path: str,
    data: Any = None,
    *,
    method: str = "post",
    key: str | None = KEY,
    format: str | None = "json",
    headers: dict[str, str] | None = None,
    **extra: Any,
) -> Any:
    sent = dict(headers or {})
    if key is not None:
        sent["Idempotency-Key"] = key
    call = getattr(client, method)
    return call(path, data, format=format, headers=sent, **extra)


def send_twice(client: APIClient, path: str, data: Any = None, **how: Any) -> list[Any]:
    return [send(client, path, data, **how) for _ in range(2)]
