"""Protected views that can't keep their promise, and their neighbours that can.

Each is in the URLconf under its name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from django_idempotency.decorators import idempotent


def without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as they are often written: nothing is seen through it."""

    def outer(request: HttpRequest) -> Any:
        return view(request)

    return outer


@idempotent
def function(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(retention=timedelta(days=1))
def function_kept_for_a_day(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent
@transaction.atomic
def function_with_its_own_transaction(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(lease=timedelta(minutes=1))
def leased(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(lease=timedelta(minutes=1))
async def leased_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(lease=timedelta(minutes=1))
@transaction.atomic(durable=True)
def leased_durable(request: HttpRequest) -> HttpResponse:
    """Nothing is open around it."""
    return HttpResponse()


def half_made() -> Any:
    """A view with a name that isn't bound yet, as in code that is still importing."""
    later = HttpResponse

    def view(request: HttpRequest) -> HttpResponse:
        return later()  # noqa: F821 - that is the point

    del later
    return idempotent(view)


class OrderView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@method_decorator(idempotent, name="dispatch")
class OnDispatch(OrderView): ...


@method_decorator(idempotent, name="post")
class OnPost(OrderView):
    @transaction.atomic
    def put(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@method_decorator(idempotent(lease=timedelta(minutes=1)), name="post")
class LeasedOnPost(OrderView): ...


RIGHT = {
    "function": function,
    "function-kept-for-a-day": function_kept_for_a_day,
    "function-with-its-own-transaction": function_with_its_own_transaction,
    "half-made": half_made(),
    "leased": leased,
    "leased-async": leased_async,
    "leased-durable": leased_durable,
    "below-login-required": login_required(function),
    "on-dispatch": OnDispatch.as_view(),
    "on-post": OnPost.as_view(),
    "around-as-view": idempotent(OrderView.as_view()),
    "unprotected": OrderView.as_view(),
    "unprotected-transaction": transaction.atomic(OrderView.as_view()),
}


@method_decorator(idempotent, name="post")
class AsyncHandler(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@idempotent
@without_wraps
@login_required
def access_check_below(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent
@transaction.atomic(durable=True)
def durable(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(keep_errors=True)
def keep_errors(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@idempotent(retention=timedelta(hours=1))
def short_retention(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@transaction.atomic
@idempotent
def atomic_above(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class AtomicDispatch(OnPost):
    @transaction.atomic
    def dispatch(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponseBase:
        return super().dispatch(request, *args, **kw)


WRONG = {
    "async-handler": AsyncHandler.as_view(),
    "access-check-below": access_check_below,
    "durable": durable,
    "keep-errors": keep_errors,
    "short-retention": short_retention,
    "atomic-above": atomic_above,
    "atomic-dispatch": AtomicDispatch.as_view(),
    "atomic-above-lease": transaction.atomic(leased),
    "atomic-as-view": transaction.atomic(idempotent(OrderView.as_view())),
}

ALL = {**RIGHT, **WRONG}
urlpatterns = [path(f"{name}/", view) for name, view in ALL.items()]


class Only:
    """A URLconf with one of the views, further in."""

    def __init__(self, view: Callable[..., Any]) -> None:
        inner = [path("", view), path("again/", view)]
        self.urlpatterns = [path("shop/", include((inner, "shop")))]
