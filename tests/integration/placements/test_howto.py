"""The page on placing the protection: its code is run, and each view of it protects."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import path

from tests.support.ordering import orders, send, signed_in_client, word
from tests.testapp.models import Order

from .conftest import add_order

PAGE = Path(__file__).parents[3] / "docs/howto/place-the-protection.md"


def place_order(request: HttpRequest) -> int:
    return Order.objects.create().pk


CODE = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S))
VIEWS: dict[str, Any] = {
    "__name__": __name__,
    "JsonResponse": JsonResponse,
    "place_order": place_order,
}
exec(CODE.replace("shop.add_order", "testapp.add_order"), VIEWS)  # noqa: S102

MEMBERS_ONLY = {
    "function": VIEWS["pay"],
    "class": VIEWS["Pay"].as_view(),
    "dispatch": VIEWS["MembersOnly"].as_view(),
    "rest": VIEWS["pay_by_api"],
    "json": VIEWS["pay_as_json"],
}
urlpatterns = [path(f"{name}/", view) for name, view in MEMBERS_ONLY.items()]
urlpatterns.append(path("dry-run/", VIEWS["pay_or_try"]))

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]


@pytest.fixture
def ann() -> Client:
    client = signed_in_client("ann")
    User.objects.get().user_permissions.add(add_order())
    return client


@pytest.mark.parametrize("name", MEMBERS_ONLY)
def test_view_of_the_page_is_protected_behind_its_check(ann: Client, name: str) -> None:
    first, copy = (send(ann, f"/{name}/") for _ in range(2))
    ann.logout()
    stranger = send(ann, f"/{name}/")

    assert (word(copy), copy.content) == (
        f"{first.status_code} replayed",
        first.content,
    )
    assert (stranger.status_code in (302, 403), orders()) == (True, 1)


def test_header_that_counts_makes_another_request_of_it(ann: Client) -> None:
    first, copy = (send(ann, "/dry-run/", X_Dry_Run="yes") for _ in range(2))
    real = send(ann, "/dry-run/")

    assert [word(each) for each in (first, copy, real)] == [
        "201",
        "201 replayed",
        "422 key-reused",
    ]
