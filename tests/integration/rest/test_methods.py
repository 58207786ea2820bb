"""PUT, PATCH and DELETE with a key; GET, HEAD and OPTIONS without questions."""

from __future__ import annotations

import pytest
from django.urls import include, path
from rest_framework.routers import SimpleRouter
from rest_framework.serializers import ModelSerializer
from rest_framework.viewsets import ModelViewSet

from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import KEY, is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class OrderSerializer(ModelSerializer[Order]):
    class Meta:
        model = Order
        fields = ["id", "amount"]


class Orders(IdempotencyMixin, ModelViewSet[Order]):
    queryset = Order.objects.all()
    serializer_class = OrderSerializer


router = SimpleRouter()
router.register("orders", Orders)
urlpatterns = [path("", include(router.urls))]


@pytest.mark.parametrize("method", ["put", "patch"])
def test_repeated_change_is_replayed_and_not_made_again(method: str) -> None:
    order = Order.objects.create(amount=1)
    client = signed_in()
    first = send(client, f"/orders/{order.pk}/", {"amount": 2}, method=method)
    Order.objects.update(amount=3)  # somebody else, meanwhile
    again = send(client, f"/orders/{order.pk}/", {"amount": 2}, method=method)

    assert (first.status_code, again.content) == (200, first.content)
    assert is_replay(again)
    order.refresh_from_db()
    assert order.amount == 3


@pytest.mark.parametrize(
    ("method", "status"), [("put", 200), ("patch", 400), ("delete", 204)]
)
def test_only_post_and_patch_need_a_key(method: str, status: int) -> None:
    order = Order.objects.create()
    response = send(
        signed_in(), f"/orders/{order.pk}/", {"amount": 2}, method=method, key=None
    )

    assert (response.status_code, states()) == (status, [])


def test_one_key_for_two_methods_is_two_operations() -> None:
    """FR-047."""
    order = Order.objects.create()
    client = signed_in()
    path = f"/orders/{order.pk}/"
    put, patch = (
        send(client, path, {"amount": 2}, method=method) for method in ("put", "patch")
    )

    assert (put.status_code, patch.status_code) == (200, 200)
    assert not is_replay(patch)


def test_one_key_for_two_objects_is_two_operations() -> None:
    """FR-048."""
    paths = [f"/orders/{Order.objects.create().pk}/" for _ in range(2)]
    client = signed_in()
    answers = [send(client, path, {"amount": 7}, method="patch") for path in paths]

    assert not any(is_replay(each) for each in answers)
    assert set(Order.objects.values_list("amount", flat=True)) == {7}


def test_get_is_fresh_each_time() -> None:
    """FR-061."""
    order = Order.objects.create(amount=1)
    client = signed_in()
    headers = {"Idempotency-Key": KEY}
    first = client.get(f"/orders/{order.pk}/", headers=headers)
    Order.objects.update(amount=2)
    again = client.get(f"/orders/{order.pk}/", headers=headers)

    assert (first.json()["amount"], again.json()["amount"]) == (1, 2)
    assert states() == []


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_safe_method_needs_no_key(method: str) -> None:
    """FR-060."""
    client = signed_in()

    assert getattr(client, method)("/orders/").status_code == 200
    assert (orders(), states()) == (0, [])


def test_options_describes_the_actions_as_without_us() -> None:
    described = signed_in().options("/orders/").json()

    assert set(described["actions"]["POST"]) == {"id", "amount"}
