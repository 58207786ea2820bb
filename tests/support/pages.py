"""The code of the docs' pages, and a shop around it in which it runs.

The shop has what a reader's project has: models, and a provider that honours keys.
"""

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

from django.contrib.auth.models import User
from django.db import connection, models
from django.test import RequestFactory
from django.test.utils import isolate_apps

DOCS = Path(__file__).parents[2] / "docs"

Names = dict[str, Any]


def blocks(page: str, language: str = "python") -> list[str]:
    """Return the blocks of a page in one language."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(
        rf"^( *)```{re.escape(language)}\n(.*?)^\1```$", text, re.M | re.S
    )
    return [dedent(code) for _, code in found]


def block(page: str, *fragments: str, language: str = "python") -> str:
    """Return the one block of a page that has all of these."""
    (found,) = [
        code
        for code in blocks(page, language)
        if all(each in code for each in fragments)
    ]
    return found


def run(code: str, names: Names) -> Names:
    exec(code, names)  # noqa: S102 - our own pages
    return names


def value(code: str, names: Names, at: int = -1) -> Any:
    """Run a block up to one of its statements, and return what that one is worth."""
    body = ast.parse(code).body
    statement = body[at]
    assert isinstance(statement, ast.Expr)
    run("\n".join(ast.unparse(each) for each in body[:at] if at < 0), names)
    return eval(ast.unparse(statement), names)  # noqa: S307 - our own pages


def around(code: str, names: Names, *, before: str = "", after: str = "") -> Any:
    """Return a view that consists of a block, with lines before and after it."""
    body = "\n".join([before, code, after])
    run(f"def view(request):\n{indent(body, '    ')}", names)
    return names["view"]


class CardDeclined(Exception):
    """What a client of a provider raises."""


class Provider:
    """It honours keys, and is asked by whatever name its client has for that."""

    Declined = CardDeclined

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.made: dict[str, str] = {}
        self.fate: type[Exception] | None = None
        """What comes instead of the next answers."""

    def ask(self, key: str) -> str:
        self.asked.append(key)
        if self.fate is CardDeclined:
            raise CardDeclined
        found = self.made.setdefault(key, f"ch_{len(self.made)}")
        if self.fate is not None:
            raise self.fate
        return found

    def charge(self, *args: Any, idempotency_key: str, **details: Any) -> str:
        return self.ask(idempotency_key)

    async def acharge(self, *args: Any, idempotency_key: str, **details: Any) -> str:
        return self.ask(idempotency_key)

    def book(self, order_id: int, key: str) -> str:
        return self.ask(key)

    async def abook(self, order_id: int, key: str) -> str:
        return self.ask(key)

    def send(self, *, to: str, text: str, idempotency_key: str) -> str:
        return self.ask(idempotency_key)


CART = """
class Cart(models.Model):
    amount = models.IntegerField(default=1990)
    user = models.ForeignKey(
        User, models.CASCADE, related_name="+", null=True, db_constraint=False
    )
    reserved_for = models.UUIDField(null=True)

    @property
    def orders(self):
        return Order.objects.filter(cart=self)
"""
OTHERS = """
class Receipt(models.Model):
    order = models.ForeignKey(Order, models.CASCADE, related_name="receipts")


class Refund(models.Model):
    charge = models.CharField(max_length=255)
"""
"""The models of which the pages show only the use."""


@contextmanager
def shop() -> Iterator[Names]:
    """Make the tables of the pages' own models; yield the names that are there."""
    names: Names = {"__name__": "tests.testapp.pages", "models": models, "User": User}
    with isolate_apps("tests.testapp"):
        run(CART, names)
        run(block("explanation/charged-and-gone", "class Order(models.Model)"), names)
        run(OTHERS, names)
        names["Order"].email = "ann@example.com"
        tables = [names[each] for each in ("Cart", "Order", "Receipt", "Refund")]
        for model in tables:  # the test app has tables of these names
            model._meta.db_table = f"pages_{model._meta.model_name}"
        with connection.schema_editor() as editor:
            for model in tables:
                editor.create_model(model)
        try:
            yield names
        finally:
            with connection.schema_editor() as editor:
                for model in reversed(tables):
                    editor.delete_model(model)


def request_of(user: Any, key: str, **data: Any) -> Any:
    request: Any = RequestFactory().post(
        "/checkout/", data, headers={"Idempotency-Key": key}
    )

    async def auser() -> Any:
        return user

    request.user, request.auser = user, auser
    return request


def tried(act: Callable[[], Any]) -> Any:
    """The status of the answer, or the error instead of one."""
    try:
        return act().status_code
    except Exception as error:
        return type(error)
