"""The page on django-ninja: its code is run, and each operation of it is protected."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpRequest

from django_idempotency.http import Identified
from tests.support.ordering import orders, send, signed_in_client, word
from tests.testapp.models import Order

from .exchange import serving

pytestmark = pytest.mark.usefixtures("db")

PAGE = Path(__file__).parents[3] / "docs/howto/use-django-ninja.md"
CODE = "\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S))


def place_order(amount: int) -> int:
    return Order.objects.create(amount=amount).pk


NAMES: dict[str, Any] = {"__name__": __name__, "place_order": place_order}
exec(CODE, NAMES)  # noqa: S102
globals().update(NAMES)  # where ninja looks up what annotations name


@pytest.mark.parametrize("at", ["/orders/", "/refunds/", "/slow-orders/"])
def test_operation_of_the_page_is_protected_behind_its_check(at: str) -> None:
    body = '{"amount": 3}'
    with serving(NAMES["api"]):
        client = signed_in_client("ann")
        User.objects.update(is_staff=True)
        answers = [send(client, at, body) for _ in range(2)]
        User.objects.update(is_staff=False)
        without_right = send(client, at, body)
        client.logout()
        stranger = send(client, at, body)

    assert [word(each) for each in answers] == ["201", "201 replayed"]
    assert without_right.status_code == (403 if at == "/refunds/" else 201)
    assert (stranger.status_code, orders()) == (401, 1)


def test_principal_of_the_page_names_clients_and_users() -> None:
    request: Any = HttpRequest()
    request.user = SimpleNamespace(is_authenticated=False)
    assert NAMES["principal"](request) == "anonymous"
    request.auth = SimpleNamespace(client_id="till-4")
    assert NAMES["principal"](request) == Identified("client:till-4")
