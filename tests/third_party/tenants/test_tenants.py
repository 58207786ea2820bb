"""django-tenants, with the records in each tenant's schema."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django_tenants.utils import schema_context
from rest_framework.decorators import api_view
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from django_idempotency.decorators import idempotent
from django_idempotency.engine import atomic as engine
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.rows import place_of
from tests.support.ordering import GUEST_KEY, place_order, send, word
from tests.testapp.models import Order

from .models import Domain, Shop

SHOPS = ["north", "south"]


def place_and_look_elsewhere(request: HttpRequest) -> HttpResponse:
    response = place_order(request)
    with schema_context(SHOPS[1]):
        Order.objects.count()
    return response


def place_and_stay_elsewhere(request: HttpRequest) -> HttpResponse:
    response = place_order(request)
    connection.set_schema(SHOPS[1])  # type: ignore[attr-defined]
    return response


@api_view(["POST"])
@idempotent(keep_errors=True)
def fail_elsewhere(request: Request) -> Response:
    place_order(request._request)
    connection.set_schema(SHOPS[1])  # type: ignore[attr-defined]
    raise NotFound


leased: Any = idempotent(lease=timedelta(minutes=1))
VIEWS = {
    "atomic": idempotent(place_and_look_elsewhere),
    "leased": leased(place_and_look_elsewhere),
    "released": idempotent(keep=lambda response: False)(place_and_look_elsewhere),
}
urlpatterns = [
    *[path(f"{name}/", view) for name, view in VIEWS.items()],
    path("lost/", idempotent(place_and_stay_elsewhere)),
    path("failed/", fail_elsewhere),
]

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("_shops"),
]


@pytest.fixture
def _shops(transactional_db: None) -> Iterator[None]:
    """Their schemas stay from test to test, since they take seconds to make."""
    connection.set_schema_to_public()  # type: ignore[attr-defined]
    for name in SHOPS:
        shop = Shop.objects.create(schema_name=name, name=name)
        Domain.objects.create(domain=f"{name}.test", tenant=shop, is_primary=True)
        with schema_context(name):
            if Order._meta.db_table not in connection.introspection.table_names():
                with connection.schema_editor() as editor:
                    editor.create_model(Order)
    yield
    for name in SHOPS:
        with schema_context(name):
            Order.objects.all().delete()
            IdempotencyRecord.objects.all().delete()
    connection.set_schema_to_public()  # type: ignore[attr-defined]


def post(shop: str, name: str) -> Any:
    client = Client(raise_request_exception=False)
    return send(client, f"/{name}/", key=GUEST_KEY, Host=f"{shop}.test")


def counts(shop: str) -> tuple[int, int]:
    with schema_context(shop):
        return Order.objects.count(), IdempotencyRecord.objects.count()


@pytest.mark.parametrize("name", ["atomic", "leased"])
def test_view_that_looks_into_another_schema_last_is_kept_in_its_own(name: str) -> None:
    words = [word(post("north", name)) for _ in range(2)]

    assert words == ["201", "201 replayed"]
    assert (counts("north"), counts("south")) == ((1, 1), (0, 0))


def test_answer_that_is_not_kept_is_released_in_its_own_schema() -> None:
    assert word(post("north", "released")) == "201"
    assert (counts("north"), counts("south")) == ((1, 1), (0, 0))


def test_connection_that_is_left_in_another_schema_is_an_error_and_nothing_is_done() -> (
    None
):
    assert word(post("north", "lost")) == "500"
    assert (counts("north"), counts("south")) == ((0, 0), (0, 0))


def test_error_that_is_kept_is_not_kept_in_another_schema() -> None:
    assert word(post("north", "failed")) == "404"
    assert (counts("north"), counts("south")) == ((0, 0), (0, 0))


@pytest.mark.parametrize("name", ["atomic", "leased"])
def test_one_key_is_another_operation_in_another_schema(name: str) -> None:
    words = [word(post(shop, name)) for shop in SHOPS * 2]

    assert words == ["201", "201", "201 replayed", "201 replayed"]
    assert (counts("north"), counts("south")) == ((1, 1), (1, 1))


def test_operations_of_two_schemas_do_not_wait_for_each_other() -> None:
    """Though their ids are equal: one runs while the other is held up."""

    def in_a_thread(shop: str) -> str:
        try:
            return word(post(shop, "atomic"))
        finally:
            connections.close_all()

    post("north", "atomic")
    with schema_context("north"):
        place = place_of(IdempotencyRecord.objects.get().pk, connection)
    with (
        engine.gate.passed(place, timedelta(0), lambda: None),
        ThreadPoolExecutor(1) as threads,
    ):
        answer = threads.submit(in_a_thread, "south").result(30)

    assert answer == "201"
