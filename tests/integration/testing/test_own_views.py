"""The page on tests of one's own: each tool finds the bug that is planted there."""

import inspect
import json
import linecache
import re
import sys
import time
import unittest
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.db import transaction
from django.db.models import F
from django.http import JsonResponse
from django.test import Client, TransactionTestCase
from django.urls import path

from django_idempotency import testing
from django_idempotency.decorators import idempotent
from django_idempotency.testing import IdempotentClient
from django_idempotency.webhooks import endpoints, providers, webhook
from tests.support.ordering import FORM, JSON, signed_in_client
from tests.testapp.models import Cart, CartItem, Order

PAGE = Path(__file__).parents[3] / "docs/howto/test-your-own-views.md"
SECTIONS = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
SECRET = "whsec_of_the_page"  # noqa: S105 - nothing else is signed with it

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]
urlpatterns: list[Any] = []


def blocks(section: str, language: str) -> list[str]:
    [text] = [each for each in SECTIONS if each.startswith(section)]
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
    return found


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the page takes for granted; `shop.payments` takes its time."""
    payments = ModuleType("shop.payments")
    payments.charge = lambda amount, key="": time.sleep(0.2 * (not key))  # type: ignore[attr-defined]
    package = ModuleType("shop")
    package.payments = payments  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop", package)
    monkeypatch.setitem(sys.modules, "shop.payments", payments)
    monkeypatch.setattr(endpoints, "_endpoints", {})
    tools = {name: getattr(testing, name) for name in testing.__all__}
    yield tools | {
        "__name__": "shop.views",
        **{"Cart": Cart, "CartItem": CartItem, "F": F, "FORM": FORM, "JSON": JSON},
        **{"JsonResponse": JsonResponse, "Order": Order, "SECRET": SECRET},
        **{"idempotent": idempotent, "json": json, "payments": payments},
        **{"providers": providers, "pytest": pytest, "timedelta": timedelta},
        **{"TransactionTestCase": TransactionTestCase, "webhook": webhook},
    }
    urlpatterns.clear()


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block as the file that its report names, and serve its views."""
    file = "shop/views.py" if "def test_" not in code else "shop/tests.py"
    linecache.cache[file] = (len(code), None, code.splitlines(keepends=True), file)
    exec(compile(code, file, "exec"), names)  # noqa: S102 - our page
    for name in ("checkout", "payments"):
        if callable(names.get(name)):
            urlpatterns.append(path(f"{name}/", names[name]))
    return names


def said_by(test: Callable[..., None], *args: Any) -> str:
    with pytest.raises(AssertionError) as caught:
        test(*args)
    said = f"AssertionError: {caught.value}"
    return said.replace("testapp.", "shop.").replace("testapp_", "shop_")


def words_of(text: str) -> list[str]:
    """A message, however its lines are broken; how many copies win is chance."""
    return re.sub(r"\b\d+ (added|times)", r"N \1", text).split()


FINDS = {
    "`assert_idempotent`": "test_checkout",
    "`hammer`": "test_copies",
    "`crash_everywhere`": "test_crashes",
    "`assert_handler_safe`": "test_order_of_events",
}


@pytest.mark.parametrize("tool", FINDS)
def test_tool_finds_the_bug_of_its_section_and_says_what_is_shown(
    tool: str, shop: dict[str, Any]
) -> None:
    view, test, *_ = blocks(tool, "python")
    shown, *_ = blocks(tool, "text")
    item = Cart.objects.create(name="before").items.create(quantity=9)
    assert item.quantity == 9
    function = run(test, run(view, shop))[FINDS[tool]]
    wants = inspect.signature(function).parameters
    given = {"client": signed_in_client(), "content_type": JSON}

    said = said_by(function, *[given[name] for name in wants])

    assert words_of(said) == words_of(shown)


def test_refusal_is_the_one_shown(shop: dict[str, Any]) -> None:
    _, shown = blocks("`hammer`", "text")
    with transaction.atomic():
        said = said_by(lambda: testing.hammer(Client(), "/checkout/"))

    assert words_of(said) == words_of(shown)


def test_clients_of_the_page_send_a_fresh_key_or_the_one_that_is_given(
    shop: dict[str, Any],
) -> None:
    view, tests, cases = blocks("Clients", "python")
    names = run(cases, run(tests, run(view, shop)))
    assert Client().post("/checkout/", {}, JSON).status_code == 400

    for name in ("test_checkout", "test_second_click"):
        Order.objects.all().delete()
        names[name](IdempotentClient())
    result = unittest.TestResult()
    names["CheckoutTests"]("test_checkout")(result)

    assert (result.testsRun, result.failures, result.errors) == (1, [], [])


def test_second_payment_is_missed_as_shown(shop: dict[str, Any]) -> None:
    view, test = blocks("`deliver`", "python")
    [shown] = blocks("`deliver`", "text")
    names = run(test, run(view, shop))

    said_by(names["test_two_payments"], Client())

    assert f"assert {Order.objects.count()} == 2" in shown


def test_call_of_the_page_is_prepared(shop: dict[str, Any]) -> None:
    [_, _, code] = blocks("`crash_everywhere`", "python")
    shop["checkout"] = idempotent(lambda request: JsonResponse({}))
    urlpatterns.append(path("checkout/", shop["checkout"]))

    run(code, {**shop, "checkout": None})["test_crashes_with_a_cart"](Client())

    assert Cart.objects.count() > 2
