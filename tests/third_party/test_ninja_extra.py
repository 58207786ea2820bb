"""Controllers of django-ninja-extra: their permissions hold, and their work is done once."""

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import AsyncClient
from django.urls import path
from ninja import Schema
from ninja.errors import HttpError
from ninja_extra import (
    ControllerBase,
    NinjaExtraAPI,
    api_controller,
    http_post,
    permissions,
    route,
)

from django_idempotency.contrib.ninja import idempotent
from django_idempotency.http import IdempotentRequest
from tests.support.cases import cases
from tests.support.ordering import GUEST_KEY, JSON, orders, send, signed_in_client, word
from tests.testapp.models import Order


class Wish(Schema):
    amount: int = 0


class Placed(Schema):
    order: int
    amount: int


def placed(amount: int) -> dict[str, int]:
    return {"order": Order.objects.create(amount=amount).pk, "amount": amount}


class IsStaff(permissions.BasePermission):
    def has_permission(self, request: HttpRequest, controller: Any) -> bool:
        return request.user.is_staff  # type: ignore[union-attr]


@api_controller("/orders")
class Orders(ControllerBase):
    @route.post("/plain", response={201: Placed})
    @idempotent
    def plain(self, wish: Wish) -> Any:
        context: Any = self.context
        context.response.headers["X-Till"] = "4"
        return 201, placed(wish.amount)

    @http_post("/request", response={201: Placed})
    @idempotent
    def with_request(self, request: IdempotentRequest, wish: Wish) -> Any:
        assert request.idempotency.key
        return 201, placed(wish.amount)

    @route.post("/staff", response={201: Placed}, permissions=[IsStaff])
    @idempotent
    def staff(self, wish: Wish) -> Any:
        return 201, placed(wish.amount)

    @route.post("/{int:number}/routed", response={201: Placed})
    @idempotent
    def routed(self, number: int) -> Any:
        return 201, placed(number)

    @route.post("/invalid", response=Placed)
    @idempotent
    def invalid(self) -> Any:
        return {"order": placed(1)["order"]}

    @route.post("/refused", response=Placed)
    @idempotent
    def refused(self) -> Any:
        placed(1)
        raise HttpError(402, "No money.")


@api_controller("/async")
class AsyncOrders(ControllerBase):
    @route.post("/", response={201: Placed})
    @idempotent(lease=timedelta(minutes=1))
    async def place(self, wish: Wish) -> Any:
        order = await Order.objects.acreate(amount=wish.amount)
        return 201, order_of(order)


def order_of(order: Order) -> dict[str, int]:
    return {"order": order.pk, "amount": order.amount}


api = NinjaExtraAPI(urls_namespace="extra")
api.register_controllers(Orders, AsyncOrders)
urlpatterns = [path("", api.urls)]

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.filterwarnings("ignore:Returning tuple"),
]


@pytest.mark.parametrize("at", ["plain", "request", "staff", "7/routed"])
def test_operation_of_a_controller_is_done_once(at: str) -> None:
    client = signed_in_client()
    User.objects.update(is_staff=True)
    first, copy = (send(client, f"/orders/{at}", '{"amount": 7}') for _ in range(2))

    assert [word(first), word(copy)] == ["201", "201 replayed"]
    assert (copy.content, copy.get("X-Till")) == (first.content, first.get("X-Till"))
    assert first.json() == order_of(Order.objects.get())
    assert ("X-Till" in first.headers) == (at == "plain")


def test_permission_of_a_controller_holds_for_a_replay() -> None:
    client = signed_in_client()
    answers = []
    for is_staff in (False, True, False):
        User.objects.update(is_staff=is_staff)
        answers.append(send(client, "/orders/staff"))

    assert [each.status_code for each in answers] == [403, 201, 403]
    assert orders() == 1


@cases("at, status", {"invalid": ("invalid", 500), "refused": ("refused", 402)})
def test_what_fails_in_a_controller_is_rolled_back(at: str, status: int) -> None:
    client = signed_in_client(raise_request_exception=False)
    words = [word(send(client, f"/orders/{at}")) for _ in range(2)]

    assert (words, orders()) == ([str(status)] * 2, 0)


def test_async_operation_of_a_controller_is_done_once() -> None:
    headers = {"Idempotency-Key": GUEST_KEY}
    answers = [
        async_to_sync(AsyncClient().post)(
            "/async/", '{"amount": 3}', content_type=JSON, headers=headers
        )
        for _ in range(2)
    ]

    assert [word(each) for each in answers] == ["201", "201 replayed"]
    assert answers[1].content == answers[0].content
    assert orders() == 1


def test_decorator_above_a_route_is_refused_with_the_lines() -> None:
    with pytest.raises(ImproperlyConfigured, match="must stand below"):

        @idempotent
        @route.post("/")
        def place(self: Any) -> None: ...


def test_schema_shows_the_key() -> None:
    paths = api.get_openapi_schema(path_prefix="")["paths"]
    names = [each["name"] for each in paths["/orders/plain"]["post"]["parameters"]]

    assert names == ["Idempotency-Key"]
