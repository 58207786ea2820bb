"""What several of the tests send to an API, and how they are given one."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import clear_url_caches, path
from ninja import NinjaAPI, Schema

from tests.support.ordering import send
from tests.testapp.models import Order

deprecated_tuples = pytest.mark.filterwarnings("ignore:Returning tuple")
"""All versions of ninja understand them, and the newest warns."""

_numbers = count()


class Wish(Schema):
    amount: int = 0
    ends: str = ""


class Placed(Schema):
    order: int
    amount: int


def place(request: HttpRequest, wish: Wish) -> Any:
    order = Order.objects.create(amount=wish.amount)
    return 201, {"order": order.pk, "amount": order.amount}


@contextmanager
def serving(api: NinjaAPI) -> Iterator[None]:
    """Serve an API at ``/``, and nothing else."""
    urls = type("Urls", (), {"urlpatterns": [path("", api.urls)]})
    with override_settings(ROOT_URLCONF=urls):
        yield
    clear_url_caches()


def new_api(**options: Any) -> NinjaAPI:
    return NinjaAPI(urls_namespace=f"api-{next(_numbers)}", **options)


def api_of(operation: Callable[..., Any], **options: Any) -> NinjaAPI:
    api = new_api()
    api.post("/", **{"response": {201: Placed}, **options})(operation)
    return api


def twice(client: Client, *request: Any, **options: Any) -> list[Any]:
    return [send(client, *(request or ("/",)), **options) for _ in range(2)]
