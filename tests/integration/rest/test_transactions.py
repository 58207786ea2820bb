"""Whose transaction a REST framework view runs in."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from django.db import connection, transaction
from django.test import RequestFactory
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet, ViewSetMixin

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.cases import cases
from tests.support.ordering import is_replay, orders
from tests.support.records import states
from tests.testapp.models import Order

from .exchange import KEY, OrderView, order, send, send_twice, signed_in

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
        return order(request)


class Raw(ViewSetMixin, IdempotencyMixin, OrderView):
    """`ViewSetMixin` makes its own `as_view` and doesn't call ours."""


class RawUnprotected(Raw):
    idempotency_policy = None


def order_or_refuse(request: Request, /) -> Response:
    Order.objects.create()
    if request.query_params.get("refuse"):
        raise ValidationError("no")
    return Response({"orders": Order.objects.count()}, status=201)


class Inner(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        return order_or_refuse(request)


inner = api_view(["POST"])(idempotent(order_or_refuse))


class Outer(IdempotencyMixin, APIView):
    def post(self, request: Request, which: str) -> Response:
        view = inner if which == "decorated" else Inner.as_view()
        if request.query_params.get("ignore"):
            view(request._request)
            return Response({"done": True}, status=201)
        times = 1 if request.query_params.get("refuse") else 2
        answers = [view(request._request) for _ in range(times)]
        return Response(
            [answer.status_code for answer in answers], status=answers[0].status_code
        )


router = SimpleRouter()
router.register("orders", Orders, basename="orders")
urlpatterns = [
    *router.urls,
    path("depth/", Depth.as_view()),
    path("unprotected/", Unprotected.as_view()),
    path("non-atomic/", NonAtomic.as_view()),
    path("raw/", Raw.as_view({"post": "post"})),
    path("outer/<which>/", Outer.as_view()),
    path("raw-unprotected/", RawUnprotected.as_view({"post": "post"})),
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


@pytest.mark.parametrize(
    ("path", "method", "key"),
    [
        ("/unprotected/", "get", KEY),
        ("/unprotected/", "post", KEY),
        ("/unprotected/", "delete", KEY),
        ("/depth/", "get", None),
        ("/non-atomic/", "get", None),
    ],
)
def test_what_is_not_protected_has_the_transaction_that_it_would_have_without_us(
    path: str, method: str, key: str | None, either_way: bool
) -> None:
    """Trap T4: an action without policy, and a safe request."""
    assert depth(path, method, key) == int(either_way and path != "/non-atomic/")


@pytest.mark.parametrize("path", ["/raw/", "/raw-unprotected/"])
def test_viewset_mixin_in_front_of_ours_works_the_same(
    path: str, either_way: bool
) -> None:
    answers = send_twice(signed_in(), path)

    assert [each.status_code for each in answers] == [201, 201]
    assert orders() == (1 if path == "/raw/" else 2)


def _called(view: Callable[..., Any]) -> Any:
    headers = {"Idempotency-Key": KEY}
    return view(RequestFactory().post("/orders/", headers=headers))


create = Orders.as_view({"post": "create"})
CALLS: dict[str, Callable[[], Any]] = {
    "router": lambda: send(signed_in(), "/orders/"),
    "as_view": lambda: _called(create),
    "decorator": lambda: _called(transaction.atomic(create)),
}


@cases("call", CALLS)
def test_behaviour_is_the_same_however_the_view_is_called(
    call: Callable[[], Any], either_way: bool
) -> None:
    """FR-102."""
    first, again = call(), call()

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert (orders(), states()) == (1, ["kept"])


@cases("call", CALLS)
def test_outer_rollback_takes_the_record_with_it(call: Callable[[], Any]) -> None:
    """FR-024: inside a caller's transaction the promise is the caller's."""
    with transaction.atomic():
        call()
        transaction.set_rollback(True)
    assert (orders(), states()) == (0, [])

    call()
    assert (orders(), states()) == (1, ["kept"])


# A protected view called inside another: the outer operation holds

both = pytest.mark.parametrize("which", ["decorated", "mixin"])


@both
def test_inner_view_runs_each_time_and_the_outer_operation_is_replayed(
    which: str, either_way: bool
) -> None:
    first, again = send_twice(signed_in(), f"/outer/{which}/")

    assert (first.json(), orders()) == ([201, 201], 2)
    assert (again.content, is_replay(again)) == (first.content, True)
    assert IdempotencyRecord.objects.get().path == f"/outer/{which}/"


@both
def test_inner_refusal_is_the_outer_views_to_judge(which: str) -> None:
    """What one view raises, the view that called it gets as an answer."""
    response = send(signed_in(), f"/outer/{which}/?refuse=1")

    assert (response.status_code, states()) == (400, ["kept"])


@pytest.mark.parametrize(
    ("query", "status"), [("refuse=1", 400), ("refuse=1&ignore=1", 500)]
)
@both
def test_inner_rollback_under_atomic_requests_is_never_told_as_success(
    which: str, query: str, status: int, atomic_requests: None
) -> None:
    """Trap T8: 201 about work that is gone would be a lie."""
    response = send(signed_in(), f"/outer/{which}/?{query}")

    assert (response.status_code, orders()) == (status, 0)
    assert "kept" not in states()
