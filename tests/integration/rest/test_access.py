"""Permissions, object permissions and throttles speak before any replay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.core.cache import cache
from django.db.models import QuerySet
from django.urls import include, path
from rest_framework.decorators import action, api_view, throttle_classes
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.throttling import BaseThrottle, SimpleRateThrottle
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import is_replay, orders, send, signed_in, states, user

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class OrderSerializer(ModelSerializer[Order]):
    class Meta:
        model = Order
        fields = ["id", "amount"]


class Owns(BasePermission):
    """An order belongs to whoever its reference names."""

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        return bool(obj.reference == request.user.username)


class Orders(IdempotencyMixin, ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer
    permission_classes = [Owns]

    @action(detail=True, methods=["post"])
    def pay(self, request: Request, pk: str) -> Response:
        order = self.get_object()
        order.amount += 1
        order.save()
        return Response({"paid": order.amount})


class DecoratedOrders(ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer
    permission_classes = [Owns]

    @action(detail=True, methods=["post"])
    @idempotent
    def pay(self, request: Request, pk: str) -> Response:
        order = self.get_object()
        order.amount += 1
        order.save()
        return Response({"paid": order.amount})


class LockedOrders(Orders):
    """Its rows are locked for the view, which only works in a transaction."""

    def get_queryset(self) -> QuerySet[Order]:
        return Order.objects.select_for_update()


class OpenedOrders(Orders):
    def check_replay(self, request: Request) -> None:
        """The author of this view knows better."""


class ByReference(Orders):
    lookup_field = "reference"
    lookup_url_kwarg = "name"


class OncePerMinute(SimpleRateThrottle):
    scope = "orders"
    rate = "1/min"

    def get_cache_key(self, request: Request, view: APIView) -> str:
        return f"throttle-{view.request.path}"


class Counting(BaseThrottle):
    asked: ClassVar[list[str]] = []

    def allow_request(self, request: Request, view: APIView) -> bool:
        self.asked.append(request.path)
        return True


class Counted(IdempotencyMixin, APIView):
    throttle_classes = [Counting]

    def post(self, request: Request) -> Response:
        return Response()


@api_view(["POST"])
@throttle_classes([Counting])
@idempotent
def counted(request: Request) -> Response:
    return Response()


class Throttled(IdempotencyMixin, APIView):
    throttle_classes = [OncePerMinute]

    def post(self, request: Request) -> Response:
        return Response({"order": Order.objects.create().pk}, status=201)


@api_view(["POST"])
@throttle_classes([OncePerMinute])
@idempotent
def throttled(request: Request) -> Response:
    return Response({"order": Order.objects.create().pk}, status=201)


router = SimpleRouter()
router.register("orders", Orders, basename="orders")
router.register("decorated", DecoratedOrders, basename="decorated")
router.register("locked", LockedOrders, basename="locked")
router.register("opened", OpenedOrders, basename="opened")
router.register("named", ByReference, basename="named")
urlpatterns = [
    path("", include(router.urls)),
    path("counting/", Counted.as_view()),
    path("counting-below/", counted),
    path("throttled/", Throttled.as_view()),
    path("throttled-below/", throttled),
]


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    cache.clear()
    Counting.asked.clear()
    yield
    cache.clear()


def order_of(username: str) -> Order:
    user(username)
    return Order.objects.create(reference=username)


@pytest.mark.parametrize("prefix", ["orders", "decorated", "locked"])
def test_detail_route_is_replayed_to_its_owner(prefix: str, either_way: bool) -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first, again = (send(client, f"/{prefix}/{order.pk}/pay/") for _ in range(2))

    assert (first.status_code, first.json()) == (200, {"paid": 1})
    assert (again.status_code, again.content) == (200, first.content)
    assert is_replay(again)


@pytest.mark.parametrize("prefix", ["orders", "decorated", "locked"])
def test_lost_object_permission_gets_no_replay(prefix: str, either_way: bool) -> None:
    """FR-065."""
    order = order_of("ada")
    client = signed_in("ada")
    first = send(client, f"/{prefix}/{order.pk}/pay/")
    Order.objects.update(reference="eve")
    refused = send(client, f"/{prefix}/{order.pk}/pay/")

    assert (first.status_code, refused.status_code) == (200, 403)
    assert not is_replay(refused)
    assert b"paid" not in refused.content


@pytest.mark.parametrize("prefix", ["orders", "decorated"])
def test_object_that_is_gone_is_not_found_on_replay(prefix: str) -> None:
    """FR-065."""
    order = order_of("ada")
    client = signed_in("ada")
    send(client, f"/{prefix}/{order.pk}/pay/")
    Order.objects.all().delete()
    refused = send(client, f"/{prefix}/{order.pk}/pay/")

    assert refused.status_code == 404
    assert not is_replay(refused)


def test_lookup_by_another_url_argument_asks_for_the_object() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first = send(client, "/named/ada/", {"amount": 5}, method="patch")
    order.delete()

    assert first.status_code == 200
    assert send(client, "/named/ada/", {"amount": 5}, method="patch").status_code == 404


def test_repeated_delete_is_replayed_although_the_object_is_gone() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first, again = (
        send(client, f"/orders/{order.pk}/", method="delete") for _ in range(2)
    )

    assert (first.status_code, again.status_code) == (204, 204)
    assert is_replay(again)
    assert again.content == b""
    assert "Content-Type" not in again.headers or first.headers.get("Content-Type")


def test_delete_without_a_key_is_as_without_us() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    answers = [
        send(client, f"/orders/{order.pk}/", method="delete", key=None)
        for _ in range(2)
    ]

    assert [each.status_code for each in answers] == [204, 404]
    assert states() == []


def test_view_may_decide_itself_who_may_see_a_replay() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first = send(client, f"/opened/{order.pk}/pay/")
    Order.objects.all().delete()

    assert send(client, f"/opened/{order.pk}/pay/").content == first.content


def test_refusal_of_a_replay_leaves_the_record_good() -> None:
    order = order_of("ada")
    client = signed_in("ada")
    first = send(client, f"/orders/{order.pk}/pay/")
    Order.objects.update(reference="eve")
    send(client, f"/orders/{order.pk}/pay/")
    Order.objects.update(reference="ada")
    again = send(client, f"/orders/{order.pk}/pay/")

    assert (again.content, is_replay(again)) == (first.content, True)
    assert IdempotencyRecord.objects.get().replays == 1


def test_listing_route_asks_for_no_object() -> None:
    client = signed_in("ada")
    first, again = (send(client, "/orders/", {"amount": 3}) for _ in range(2))

    assert (first.status_code, again.content) == (201, first.content)
    assert orders() == 1


@pytest.mark.parametrize("path", ["/throttled/", "/throttled-below/"])
def test_replays_count_against_the_throttle(path: str) -> None:
    """FR-041: 429 for the repeat, as for any request."""
    client = signed_in()
    first, refused = (send(client, path) for _ in range(2))

    assert (first.status_code, refused.status_code) == (201, 429)
    assert not is_replay(refused)


@pytest.mark.parametrize("path", ["/throttled/", "/throttled-below/"])
def test_throttled_first_call_leaves_the_key_free(path: str) -> None:
    """FR-041."""
    client = signed_in()
    send(client, path, key="another")
    refused = send(client, path)
    cache.clear()  # the minute is over
    done = send(client, path)

    assert (refused.status_code, done.status_code) == (429, 201)
    assert (orders(), states()) == (2, ["kept", "kept"])


@pytest.mark.parametrize("path", ["/counting/", "/counting-below/"])
def test_throttle_is_asked_once_per_request(path: str) -> None:
    client = signed_in()
    for _ in range(2):
        send(client, path)

    assert Counting.asked == [path, path]
