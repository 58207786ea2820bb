"""Where protection could not keep its promise, it says so and shows the right lines."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.decorators import (
    login_required,
    permission_required,
    user_passes_test,
)
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.generics import CreateAPIView
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.integration.rest.exchange import OrderView as RestView
from tests.integration.rest.exchange import order as rest_order
from tests.support.cases import cases

from .conftest import UNGUESSABLE
from .placement import order


class Orders(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("must not run")


class AsyncOrders(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("must not run")


@method_decorator([idempotent, login_required], name="dispatch")
class WronglyOrdered(Orders): ...


async def async_order(request: HttpRequest) -> HttpResponse:
    raise AssertionError("must not run")


class Create(ViewSet):
    def create(self, request: Request) -> Response:
        return rest_order(request)


POST = api_view(["POST"])
BELOW_API_VIEW = '@api_view(["POST"])\n    @idempotent\n'
BELOW = "@login_required\n    @idempotent\n    def order(request):"
AROUND = "idempotent(Orders.as_view())"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "above-login-required": (lambda: idempotent(login_required(order)), BELOW),
    "above-permission-required": (
        lambda: idempotent(permission_required("testapp.add_order")(order)),
        BELOW,
    ),
    "above-user-passes-test": (
        lambda: idempotent(user_passes_test(lambda user: user.is_active)(order)),
        BELOW,
    ),
    "above-hidden-login-required": (
        lambda: idempotent(never_cache(login_required(order))),
        BELOW,
    ),
    "with-options-above-login-required": (
        lambda: idempotent(required=False)(login_required(order)),
        BELOW,
    ),
    "class": (
        lambda: idempotent(Orders),
        '@method_decorator(idempotent, name="post")\n    class Orders(View):',
    ),
    "not-directly-around-as-view": (
        lambda: idempotent(csrf_exempt(Orders.as_view())),
        AROUND,
    ),
    "above-login-required-around-as-view": (
        lambda: idempotent(login_required(Orders.as_view())),
        "@login_required",
    ),
    "async-function": (
        lambda: idempotent(async_order),
        "@idempotent\n    def async_order(request):",
    ),
    "rest-above-api-view": (lambda: idempotent(POST(rest_order)), BELOW_API_VIEW),
    "rest-above-csrf-exempt-api-view": (
        lambda: idempotent(csrf_exempt(POST(rest_order))),
        BELOW_API_VIEW,
    ),
    "rest-around-as-view": (lambda: idempotent(RestView.as_view()), "IdempotencyMixin"),
    "rest-around-viewset": (
        lambda: idempotent(Create.as_view({"post": "create"})),
        "IdempotencyMixin",
    ),
    "rest-on-class": (lambda: idempotent(RestView), "(IdempotencyMixin, APIView):"),
    "async-class": (lambda: idempotent(AsyncOrders.as_view()), "@idempotent"),
    "async-method": (lambda: idempotent(AsyncOrders.post), "def post("),
}


@cases("decorate, lines", REFUSED)
def test_misplaced_decorator_is_refused_at_import_with_the_right_lines(
    decorate: Callable[[], Any], lines: str
) -> None:
    """FR-101, FR-104."""
    with pytest.raises(ImproperlyConfigured, match=re.escape(lines)):
        decorate()


AT_REQUEST: dict[str, Callable[[], Any]] = {
    "async-method": method_decorator(idempotent, name="post")(AsyncOrders).as_view,
    "above-login-required-on-dispatch": WronglyOrdered.as_view,
    "keep-errors-on-function": lambda: idempotent(keep_errors=True)(
        lambda request: HttpResponse()
    ),
    "keep-errors-on-class": lambda: idempotent(keep_errors=True)(Orders.as_view()),
}


@cases("make", AT_REQUEST)
def test_what_shows_only_with_a_request_is_refused_then_and_never_run(
    make: Callable[[], Any],
) -> None:
    """``method_decorator`` binds anew at each request."""
    headers = {"Idempotency-Key": UNGUESSABLE}

    with pytest.raises(ImproperlyConfigured):
        make()(RequestFactory().post("/", headers=headers))


def test_policy_and_options_together_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="a policy or options, not both"):
        idempotent(policy=IdempotencyPolicy(), required=False)


@pytest.mark.parametrize("base", [APIView, CreateAPIView, ViewSet, ModelViewSet])
def test_mixin_after_the_view_class_is_refused_when_the_class_is_made(
    base: type,
) -> None:
    """Trap T14: it would be silently unprotected."""
    with pytest.raises(ImproperlyConfigured, match=r"class Wrong\(IdempotencyMixin, "):
        type("Wrong", (base, IdempotencyMixin), {})


def test_mixin_inherited_in_the_right_order_is_not_refused() -> None:
    class Base(IdempotencyMixin, APIView): ...

    class Child(CreateAPIView[Any], Base): ...

    assert callable(Child.as_view())


def test_mixin_on_a_plain_view_is_refused_at_as_view() -> None:
    class Plain(IdempotencyMixin, View):
        def post(self, request: HttpRequest) -> HttpResponse:
            raise AssertionError("must not run")

    with pytest.raises(
        ImproperlyConfigured, match=r"@method_decorator\(idempotent, name=\"post\"\)"
    ):
        Plain.as_view()
