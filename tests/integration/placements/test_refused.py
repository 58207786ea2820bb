"""Where protection could not keep its promise, it says so and shows the right lines."""

from __future__ import annotations

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

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy

from .customer import UNGUESSABLE
from .orders import order


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
    "async-class": (lambda: idempotent(AsyncOrders.as_view()), "@idempotent"),
    "async-method": (lambda: idempotent(AsyncOrders.post), "def post("),
}


@pytest.mark.parametrize(("decorate", "lines"), REFUSED.values(), ids=REFUSED.keys())
def test_misplaced_decorator_is_refused_at_import_with_the_right_lines(
    decorate: Callable[[], Any], lines: str
) -> None:
    """FR-101, FR-104."""
    with pytest.raises(ImproperlyConfigured) as refusal:
        decorate()

    assert lines in str(refusal.value)


AT_REQUEST: dict[str, Callable[[], Any]] = {
    "async-method": method_decorator(idempotent, name="post")(AsyncOrders).as_view,
    "above-login-required-on-dispatch": WronglyOrdered.as_view,
    "keep-errors-on-function": lambda: idempotent(keep_errors=True)(
        lambda request: HttpResponse()
    ),
    "keep-errors-on-class": lambda: idempotent(keep_errors=True)(Orders.as_view()),
}


@pytest.mark.parametrize("make", AT_REQUEST.values(), ids=AT_REQUEST.keys())
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
