"""Whose transaction a REST framework view runs in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.test import RequestFactory
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet, ViewSetMixin

from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import KEY, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class Depth(IdempotencyMixin, APIView):
    """Answers how many transactions and savepoints are open around it."""

    idempotency_policy: ClassVar[IdempotencyPolicy | None] = IdempotencyPolicy(
        required=False
    )

    def report(self, request: Request) -> Response:
        return Response({"depth": len(connection.atomic_blocks)})

    get = post = put = delete = patch = report


class Unprotected(Depth):
    idempotency_policy = None


class NonAtomic(Depth):
    @transaction.non_atomic_requests
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return super().dispatch(request, *args, **kwargs)


class Orders(IdempotencyMixin, ViewSet):
    def create(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


class Raw(ViewSetMixin, IdempotencyMixin, APIView):
    """`ViewSetMixin` makes its own `as_view` and doesn't call ours."""

    def create(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)

    def list(self, request: Request) -> Response:
        return Response([])


class RawUnprotected(Raw):
    idempotency_policy = None


router = SimpleRouter()
router.register("orders", Orders, basename="orders")
urlpatterns = [
    *router.urls,
    path("depth/", Depth.as_view()),
    path("unprotected/", Unprotected.as_view()),
    path("non-atomic/", NonAtomic.as_view()),
    path("raw/", Raw.as_view({"post": "create", "get": "list"})),
    path("raw-unprotected/", RawUnprotected.as_view({"post": "create"})),
]


def depth(path: str, method: str, key: str | None = None) -> int:
    response = send(signed_in(), path, method=method, key=key)
    return int(response.json()["depth"])


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
@pytest.mark.parametrize("path", ["/depth/", "/non-atomic/"])
@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no-key"])
def test_unsafe_request_runs_in_exactly_one_transaction(
    path: str, method: str, key: str | None, either_way: bool
) -> None:
    assert depth(path, method, key) == 1


@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_action_without_policy_has_the_transaction_that_it_would_have_without_us(
    method: str, either_way: bool
) -> None:
    """Trap T4."""
    assert depth("/unprotected/", method, KEY) == int(either_way)


def test_safe_request_has_the_transaction_that_it_would_have_without_us(
    either_way: bool,
) -> None:
    """Trap T4."""
    assert depth("/depth/", "get") == int(either_way)


def test_view_that_was_non_atomic_has_no_transaction_for_safe_requests(
    atomic_requests: None,
) -> None:
    assert depth("/non-atomic/", "get") == 0


@pytest.mark.parametrize("path", ["/raw/", "/raw-unprotected/"])
def test_viewset_mixin_in_front_of_ours_works_the_same(
    path: str, either_way: bool
) -> None:
    client = signed_in()
    answers = [send(client, path) for _ in range(2)]

    assert [each.status_code for each in answers] == [201, 201]
    assert orders() == (1 if path == "/raw/" else 2)


def _through_the_router() -> Any:
    return send(signed_in(), "/orders/")


def _through_as_view() -> Any:
    return _called(Orders.as_view({"post": "create"}))


def _through_a_decorator() -> Any:
    return _called(transaction.atomic(Orders.as_view({"post": "create"})))


def _called(view: Callable[..., Any]) -> Any:
    headers = {"Idempotency-Key": KEY}
    return view(RequestFactory().post("/orders/", headers=headers))


@pytest.mark.parametrize(
    "call", [_through_the_router, _through_as_view, _through_a_decorator]
)
def test_behaviour_is_the_same_however_the_view_is_called(
    call: Callable[[], Any], either_way: bool
) -> None:
    """FR-102."""
    first, again = call(), call()

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert (orders(), states()) == (1, ["kept"])


@pytest.mark.parametrize("call", [_through_as_view, _through_the_router])
def test_outer_rollback_takes_the_record_with_it(call: Callable[[], Any]) -> None:
    """FR-024: inside a caller's transaction the promise is the caller's."""
    with transaction.atomic():
        call()
        transaction.set_rollback(True)
    assert (orders(), states()) == (0, [])

    call()
    assert (orders(), states()) == (1, ["kept"])
