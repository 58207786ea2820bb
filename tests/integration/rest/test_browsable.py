"""The pages of REST framework's browsable API carry a key in each form that needs one."""

import html
import re
from typing import Any

import pytest
from django.urls import path
from rest_framework.generics import ListCreateAPIView, RetrieveUpdateDestroyAPIView
from rest_framework.test import APIClient

from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import is_replay, orders
from tests.testapp.models import Order

from .exchange import OrderSerializer, signed_in

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class Orders(IdempotencyMixin, ListCreateAPIView[Order]):
    queryset = Order.objects.order_by("pk")
    serializer_class = OrderSerializer


class OneOrder(IdempotencyMixin, RetrieveUpdateDestroyAPIView[Order]):
    queryset = Order.objects.order_by("pk")
    serializer_class = OrderSerializer


class Unprotected(Orders):
    idempotency_policy = None


class Optional(Orders):
    idempotency_policy = IdempotencyPolicy(required=False)


class ByContent(Orders):
    """Its policy can't be told while there is no content yet."""

    def get_idempotency_policy(self) -> IdempotencyPolicy:
        content: Any = self.request.data
        return IdempotencyPolicy(required=content["amount"] != "0")


urlpatterns = [
    path("by-content/", ByContent.as_view()),
    path("orders/", Orders.as_view()),
    path("orders/<int:pk>/", OneOrder.as_view()),
    path("unprotected/", Unprotected.as_view()),
    path("optional/", Optional.as_view()),
]
PAGE = {"Accept": "text/html"}
FORM = re.compile(r"<form[^>]*(?:POST|PUT)[^>]*>(.*?)</form>", re.S)


@pytest.fixture(params=["guest", "signed-in"])
def client(request: pytest.FixtureRequest) -> APIClient:
    if request.param == "signed-in":
        return signed_in()
    return APIClient(raise_request_exception=False)


def forms(client: APIClient, url: str) -> list[tuple[str, str]]:
    """The key in each form of the page that sends something, and its content."""
    page = client.get(url, headers=PAGE)
    assert page.status_code == 200
    return [
        (
            "".join(re.findall(r'name="idempotency_key" value="(.*?)"', form)),
            html.unescape(
                "".join(re.findall(r"<textarea.*?>(.*?)</textarea>", form, re.S))
            ),
        )
        for form in FORM.findall(page.content.decode())
    ]


def test_form_is_sent_twice_and_done_once(client: APIClient) -> None:
    (key, _), _ = forms(client, "/orders/")

    fields = {"amount": "7", "idempotency_key": key}
    answers = [
        client.post("/orders/", fields, format="multipart", headers=PAGE)
        for _ in range(2)
    ]

    assert [each.status_code for each in answers] == [201, 201]
    assert is_replay(answers[1])
    assert (orders(), Order.objects.get().amount) == (1, 7)


def test_raw_data_is_sent_twice_and_done_once(client: APIClient) -> None:
    """As the script sends it, with the key in the header that the form names."""
    _, (key, empty) = forms(client, "/orders/")
    content = empty.replace("null", "7")

    sent = {**PAGE, "Idempotency-Key": key}
    answers = [
        client.generic("POST", "/orders/", content, "application/json", headers=sent)
        for _ in range(2)
    ]

    assert [each.status_code for each in answers] == [201, 201]
    assert is_replay(answers[1])
    assert orders() == 1


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("/orders/", 2),
        ("/orders/1/", 2),
        ("/optional/", 2),
        ("/unprotected/", 0),
        ("/by-content/", 2),
    ],
)
def test_each_form_of_each_page_has_a_key_of_its_own(
    url: str, count: int, client: APIClient
) -> None:
    Order.objects.create(pk=1)

    keys = [key for _ in range(2) for key, _ in forms(client, url) if key]

    assert len(set(keys)) == len(keys) == 2 * count


@pytest.mark.parametrize("url", ["/orders/", "/unprotected/"])
def test_page_with_keys_is_kept_by_no_cache_and_names_the_script(
    url: str, client: APIClient
) -> None:
    page = client.get(url, headers=PAGE)
    text = page.content.decode()

    has_keys = url == "/orders/"
    assert ("no-store" in page.headers.get("Cache-Control", "")) is has_keys
    assert ("browsable-api.js" in text) is has_keys
    assert ('data-idempotency-header="Idempotency-Key"' in text) is has_keys
