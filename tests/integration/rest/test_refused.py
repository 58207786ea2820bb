"""REST framework's wrong places are refused at import, with the right lines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.generics import CreateAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin

BELOW = '@api_view(["POST"])\n    @idempotent\n'


def order(request: Request) -> Response:
    raise AssertionError("must not run")


class Orders(ViewSet):
    def create(self, request: Request) -> Response:
        return order(request)


class OrderView(APIView):
    def post(self, request: Request) -> Response:
        return order(request)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "above-api-view": (lambda: idempotent(api_view(["POST"])(order)), BELOW),
    "above-csrf-exempt-api-view": (
        lambda: idempotent(csrf_exempt(api_view(["POST"])(order))),
        BELOW,
    ),
    "around-as-view": (lambda: idempotent(OrderView.as_view()), "IdempotencyMixin"),
    "around-viewset": (
        lambda: idempotent(Orders.as_view({"post": "create"})),
        "IdempotencyMixin",
    ),
    "on-class": (lambda: idempotent(OrderView), "(IdempotencyMixin, APIView):"),
}


@pytest.mark.parametrize(("decorate", "lines"), REFUSED.values(), ids=REFUSED.keys())
def test_misplaced_decorator_is_refused_at_import_with_the_right_lines(
    decorate: Callable[[], Any], lines: str
) -> None:
    """FR-101."""
    with pytest.raises(ImproperlyConfigured) as refusal:
        decorate()

    assert lines in str(refusal.value)


@pytest.mark.parametrize("base", [APIView, CreateAPIView, ViewSet, ModelViewSet])
def test_mixin_after_the_view_class_is_refused_when_the_class_is_made(
    base: type,
) -> None:
    """Trap T14: it would be silently unprotected."""
    with pytest.raises(ImproperlyConfigured) as refusal:
        type("Wrong", (base, IdempotencyMixin), {})

    assert "class Wrong(IdempotencyMixin, " in str(refusal.value)


def test_mixin_inherited_in_the_right_order_is_not_refused() -> None:
    class Base(IdempotencyMixin, APIView): ...

    class Child(CreateAPIView[Any], Base): ...

    assert callable(Child.as_view())


def test_mixin_on_a_plain_view_is_refused_at_as_view() -> None:
    class Plain(IdempotencyMixin, View):
        def post(self, request: HttpRequest) -> HttpResponse:
            raise AssertionError("must not run")

    with pytest.raises(ImproperlyConfigured) as refusal:
        Plain.as_view()

    assert '@method_decorator(idempotent, name="post")' in str(refusal.value)
