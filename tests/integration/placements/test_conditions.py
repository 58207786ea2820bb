"""A condition on what the call itself changes: judged at the first call, and only then.

`@condition` refuses by the state of the object. Below the protection it is part of what
runs once; above it, it stands in the way of the repeat, as the last test shows.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.http import HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.http import http_date
from django.views import View
from django.views.decorators.http import condition, etag, last_modified
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.packaging.readme import ROOT
from tests.support.ordering import is_replay, send, signed_in_client
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

Decorator = Callable[[Any], Any]


def current() -> int:
    return Order.objects.get().amount


def version(request: Any) -> str:
    return f'"{current()}"'


def changed_at(request: Any) -> datetime:
    return datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=current())


CONDITIONS: dict[str, tuple[Decorator, Callable[[], dict[str, str]]]] = {
    "etag": (etag(version), lambda: {"If-Match": version(None)}),
    "last-modified": (
        last_modified(changed_at),
        lambda: {"If-Unmodified-Since": http_date(changed_at(None).timestamp())},
    ),
    "both": (condition(version, changed_at), lambda: {"If-Match": version(None)}),
}


def pay(request: Any) -> HttpResponse:
    Order.objects.update(amount=current() + 1)
    return HttpResponse(str(current()), status=201)


def pay_with_framework(request: Any) -> Response:
    return Response({"paid": pay(request).status_code}, status=201)


def as_documented(if_current: Decorator) -> Any:
    """With another condition in the place of the page's."""
    page = (ROOT / "docs/explanation/access.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {
        **{"__name__": __name__, "idempotent": idempotent, "pay_order": pay},
        **{"etag": lambda version_of: if_current, "version_of": version},
    }
    exec(page.split("```python\n")[2].split("```")[0], names)  # noqa: S102 - our own page
    return names["pay"]


def on_post(handler: Any, *bases: Any) -> Callable[[Decorator], Any]:
    def place(if_current: Decorator) -> Any:
        def post(self: Any, request: Any) -> Any:
            return handler(request)

        members = {"post": method_decorator(if_current)(post)}
        view: Any = type("Pay", bases, members)
        return view.as_view()

    return place


POST: Any = api_view(["POST"])
on_class = on_post(pay, View)
BELOW: dict[str, Callable[[Decorator], Any]] = {
    "documented": as_documented,
    "class": lambda if_current: idempotent(on_class(if_current)),
    "mixin": on_post(pay_with_framework, IdempotencyMixin, APIView),
    "api-view": lambda if_current: POST(idempotent(if_current(pay_with_framework))),
}
ABOVE: dict[str, Callable[[Decorator], Any]] = {
    "above": lambda if_current: if_current(idempotent(pay))
}
urlpatterns = [
    path(f"{name}/{kind}/", place(if_current))
    for name, place in {**BELOW, **ABOVE}.items()
    for kind, (if_current, _) in CONDITIONS.items()
]


def asked_twice(place: str, kind: str, *, is_stale: bool = False) -> list[Any]:
    """Pay, if the order is as it was, and once more with the same condition."""
    order = Order.objects.create()
    headers = CONDITIONS[kind][1]()
    if is_stale:
        Order.objects.filter(pk=order.pk).update(amount=7)
    client = signed_in_client()
    return [send(client, f"/{place}/{kind}/", **headers) for _ in range(2)]


kinds = pytest.mark.parametrize("kind", CONDITIONS)


@kinds
@pytest.mark.parametrize("place", BELOW)
def test_repeat_gets_the_first_answer_though_the_object_has_changed(
    place: str, kind: str
) -> None:
    first, again = asked_twice(place, kind)

    assert (first.status_code, again.content) == (201, first.content)
    assert (is_replay(again), current()) == (True, 1)


@kinds
@pytest.mark.parametrize("place", BELOW)
def test_stale_call_does_nothing_and_its_refusal_is_an_answer_like_others(
    place: str, kind: str
) -> None:
    refused, again = asked_twice(place, kind, is_stale=True)

    assert (refused.status_code, again.status_code) == (412, 412)
    assert (is_replay(again), current()) == (True, 7)


@kinds
def test_condition_above_the_protection_refuses_the_repeat(kind: str) -> None:
    answers = asked_twice("above", kind)

    assert [each.status_code for each in answers] == [201, 412]
