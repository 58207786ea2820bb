"""The shop's API, as its schema describes it, tried by a program that only reads that."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.db import transaction
from django.test import Client
from django.utils.crypto import get_random_string
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi import checks

from example_project.checkout.models import Order
from example_project.checkout.ordering import place_order
from example_project.checkout.payments import payment_provider
from example_project.theatre.demo.stage import API_KEY, Stage
from tests.example.factories import CartFactory
from tests.factories import UserFactory

CHECKS: list[Any] = [
    schemathesis.checks.not_a_server_error,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.status_code_conformance,
]
# REST framework's own, which drf-spectacular leaves to the project to describe.
FRAMEWORKS = {401, 403, 404, 405, 406, 415, 429}
OPERATIONS = {
    "POST /api/orders/": 30,
    "POST /api/orders/{id}/refund/": 20,
    "GET /api/orders/": 5,
    "GET /api/orders/{id}/": 10,
}
# Else it would show nothing.
EXPECTED = {
    "POST /api/orders/": {201, 400, 402},
    "POST /api/orders/{id}/refund/": {201, 404, 409},
    "GET /api/orders/": {200},
    "GET /api/orders/{id}/": {200, 404},
}


@pytest.fixture
def shop(stage: Stage, transactional_db: None, settings: Any) -> Iterator[None]:
    settings.ROOT_URLCONF = "example_project.urls"
    settings.STRIPE_API_KEY = API_KEY
    settings.STRIPE_API_BASE = stage.gateway_url
    settings.PAYMENT_PROVIDER = (
        "example_project.checkout.stripe_payments.StripePayments"
    )
    payment_provider.cache_clear()
    yield
    payment_provider.cache_clear()


@pytest.fixture
def api(shop: None) -> Any:
    generator: Any = SchemaGenerator
    made = generator(urlconf="example_project.urls").get_schema(public=True)
    return schemathesis.openapi.from_dict(made)


@pytest.mark.parametrize("label", OPERATIONS)
def test_api_answers_as_its_schema_says(label: str, api: Any) -> None:
    method, path = label.split()
    user = UserFactory.create(username="ada")
    client = Client()
    client.force_login(user)
    cookies = {name: each.value for name, each in client.cookies.items()}
    cookies["csrftoken"] = token = get_random_string(32)
    orders = [_order_of(user) for _ in range(2)]
    statuses: set[int] = set()

    @settings(
        max_examples=OPERATIONS[label],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=api[path][method].as_strategy(),
        card=st.sampled_from(
            ["pm_card_visa", "pm_card_chargeCustomerFail", "pm_unknown", None]
        ),
        is_own=st.booleans(),
    )
    def tried(case: Any, card: str | None, is_own: bool) -> None:
        if is_own and path == "/api/orders/" and isinstance(case.body, dict):
            case.body["cart"] = CartFactory.create(user=user).pk
            case.headers["Idempotency-Key"] = str(uuid.uuid4())
            if card is not None:
                case.body["payment_method"] = card
        if is_own and "id" in case.path_parameters:
            case.path_parameters["id"] = orders[len(statuses) % 2].pk
        answer = case.call(app=_app, cookies=cookies, headers={"X-CSRFToken": token})
        statuses.add(answer.status_code)
        assert b"key-invalid" not in answer.content
        if answer.status_code not in FRAMEWORKS:
            case.validate_response(answer, checks=CHECKS)

    tried()

    assert EXPECTED[label] <= statuses


_app = WSGIHandler()


def _order_of(user: Any) -> Order:
    cart = CartFactory.create(user=user)
    with transaction.atomic():
        return place_order(cart, payment_method="pm_card_visa", key=str(uuid.uuid4()))
