"""Which addresses are one: the path, or what the project's own hook makes of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpRequest, HttpResponse
from django.template import engines
from django.test import Client
from django.urls import path
from rest_framework.decorators import api_view

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.testing.factories import IdempotencyRecordFactory
from tests.support.browser import Browser, hidden_fields
from tests.support.cases import cases
from tests.support.ordering import (
    GUEST_KEY,
    ONCE,
    orders,
    place_order,
    send,
    signed_in_client,
    word,
)

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

PAGE = "{% load idempotency %}{% csrf_token %}{% idempotency_key cart 1 %}"


@idempotent
def confirm(request: HttpRequest, cart: str) -> HttpResponse:
    if request.method == "POST":
        return place_order(request)
    page = engines["django"].from_string(PAGE)
    return HttpResponse(page.render({"cart": cart}, request))


@idempotent
def reset(request: HttpRequest, token: str) -> HttpResponse:
    return place_order(request)


urlpatterns = [
    path("orders/", idempotent(place_order)),
    path("reset/<token>/", reset),
    path("rest/<token>/", api_view(["POST"])(reset)),
    *i18n_patterns(path("carts/<cart>/", confirm)),
]

HOWTO = Path(__file__).resolve().parents[3] / "docs" / "howto" / "paths.md"
SETTING, FOLDING, HIDING = re.findall(
    r"^```python\n(.*?)^```$", HOWTO.read_text(encoding="utf-8"), re.M | re.S
)


@pytest.fixture
def from_the_howto(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the page's setting, and make the module that it names of one of its blocks."""

    def use(block: str) -> None:
        module = ModuleType("shop.idempotency")
        exec(block, vars(module))  # noqa: S102 - our own page
        monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
        monkeypatch.setitem(sys.modules, "shop.idempotency", module)
        chosen: dict[str, Any] = {}
        exec(SETTING, chosen)  # noqa: S102 - our own page
        settings.IDEMPOTENCY_PATH = chosen["IDEMPOTENCY_PATH"]

    return use


@pytest.fixture
def two_languages(settings: Any) -> None:
    settings.LANGUAGES = [("de", "German"), ("en", "English")]
    locale = "django.middleware.locale.LocaleMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, locale]


@cases(
    "block, answers, bought",
    {"folded": (FOLDING, ONCE, 1), "control": (None, ["201", "201"], 2)},
)
@pytest.mark.parametrize("is_guest", [True, False], ids=["guest", "customer"])
@pytest.mark.usefixtures("two_languages")
def test_derived_key_buys_once_in_two_languages(
    is_guest: bool,
    block: str | None,
    answers: list[str],
    bought: int,
    from_the_howto: Any,
) -> None:
    if block:
        from_the_howto(block)
    browser = Browser(Client()) if is_guest else Browser(Client()).sign_in()
    forms = {
        at: hidden_fields(browser.visit(at)) for at in ("/de/carts/7/", "/en/carts/7/")
    }
    keys = {form["idempotency_key"] for form in forms.values()}
    got = [word(browser.press(at, form)) for at, form in forms.items()]

    assert (len(keys), got, orders()) == (1, answers, bought)


@pytest.mark.usefixtures("two_languages")
def test_folding_keeps_apart_what_is_not_the_language(from_the_howto: Any) -> None:
    from_the_howto(FOLDING)
    client = signed_in_client()
    urls = ["/de/carts/7/", "/de/carts/8/", "/orders/", "/reset/de/", "/en/carts/7/"]
    got = [word(send(client, url)) for url in urls]

    assert got == ["201"] * 4 + ["201 replayed"]


@pytest.mark.parametrize("url", ["/reset/{}/", "/rest/{}/"])
def test_token_is_nowhere_in_the_record_and_still_tells_links_apart(
    url: str, from_the_howto: Any
) -> None:
    from_the_howto(HIDING)
    client = signed_in_client()
    sent = [url.format(token) for token in ("s3cr3t-1", "s3cr3t-2", "s3cr3t-1")]

    assert [word(send(client, each)) for each in sent] == ["201", "201", "201 replayed"]
    stored = list(IdempotencyRecord.objects.all())
    assert len(stored) == 2
    assert all(each.scope.endswith(f"|POST|{each.path}") for each in stored)
    assert "s3cr3t" not in repr([vars(each) for each in stored])


def test_made_record_is_the_one_that_the_request_will_meet(from_the_howto: Any) -> None:
    from_the_howto(HIDING)
    made = IdempotencyRecordFactory.create(
        path="/reset/s3cr3t/", key=GUEST_KEY, answer={"order": 1}
    )
    again = send(Client(), "/reset/s3cr3t/", key=GUEST_KEY)

    assert "s3cr3t" not in made.path
    assert (word(again), again.json()) == ("201 replayed", {"order": 1})
