"""Class-based views, with the check in a mixin, a decorator or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import login_required
from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent

from .orders import order
from .placement import Joins, Placement


class OrderView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return order(request)


class OnMethod(View):
    @method_decorator(idempotent)
    def post(self, request: HttpRequest) -> HttpResponse:
        return order(request)


class DirectlyOnMethod(View):
    @idempotent
    def post(self, request: HttpRequest) -> HttpResponse:
        return order(request)


@method_decorator(idempotent, name="post")
class OnClass(OrderView): ...


@method_decorator([never_cache, idempotent], name="post")
class OnClassBelowNeverCache(OrderView): ...


class OnDispatch(OrderView):
    @method_decorator(idempotent)
    def dispatch(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponseBase:
        return super().dispatch(request, *args, **kw)


class DirectlyOnDispatch(OrderView):
    @idempotent
    def dispatch(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponseBase:
        return super().dispatch(request, *args, **kw)


@method_decorator(idempotent, name="dispatch")
class OnDispatchByName(OrderView): ...


@method_decorator([csrf_exempt, idempotent], name="dispatch")
class OnDispatchBelowCsrfExempt(OrderView): ...


@method_decorator(idempotent, name="dispatch")
class OnDispatchTwice(OnDispatchByName): ...


@method_decorator(idempotent, name="post")
class OnDispatchAndMethod(OnDispatchByName): ...


@method_decorator([login_required, idempotent], name="dispatch")
class OnDispatchBelowLoginRequired(OrderView): ...


class MembersOnly(LoginRequiredMixin, OrderView): ...


@method_decorator(idempotent, name="post")
class MembersOnlyOnMethod(LoginRequiredMixin, OrderView): ...


@method_decorator(idempotent, name="dispatch")
class MembersOnlyOnDispatch(LoginRequiredMixin, OrderView): ...


class Permitted(PermissionRequiredMixin, OrderView):
    permission_required = "testapp.add_order"


@method_decorator(idempotent, name="post")
class PermittedOnMethod(Permitted): ...


@method_decorator(idempotent, name="dispatch")
class PermittedOnDispatch(Permitted): ...


OPEN = [
    Placement(name="method", view=OnMethod.as_view(), joins="atomic_requests"),
    Placement(
        name="method-directly",
        view=DirectlyOnMethod.as_view(),
        joins="atomic_requests",
    ),
    Placement(name="class", view=OnClass.as_view(), joins="atomic_requests"),
    Placement(
        name="class-below-never-cache",
        view=OnClassBelowNeverCache.as_view(),
        joins="atomic_requests",
    ),
    Placement(name="dispatch", view=OnDispatch.as_view()),
    Placement(name="dispatch-directly", view=DirectlyOnDispatch.as_view()),
    Placement(name="dispatch-by-name", view=OnDispatchByName.as_view()),
    Placement(
        name="dispatch-below-csrf-exempt", view=OnDispatchBelowCsrfExempt.as_view()
    ),
    Placement(name="dispatch-twice", view=OnDispatchTwice.as_view()),
    Placement(name="dispatch-and-method", view=OnDispatchAndMethod.as_view()),
    Placement(name="as-view", view=idempotent(OrderView.as_view())),
    Placement(
        name="as-view-below-csrf-exempt",
        view=csrf_exempt(idempotent(OrderView.as_view())),
    ),
    Placement(
        name="as-view-below-atomic",
        view=transaction.atomic(idempotent(OrderView.as_view())),
        joins="always",
    ),
    Placement(name="as-view-and-method", view=idempotent(OnMethod.as_view())),
    Placement(name="as-view-and-dispatch", view=idempotent(OnDispatchByName.as_view())),
]


def members(name: str, view: Callable[..., Any], joins: Joins = "never") -> Placement:
    return Placement(name=name, view=view, refuses_anonymous=302, joins=joins)


def permitted(name: str, view: Callable[..., Any], joins: Joins = "never") -> Placement:
    return Placement(
        name=name,
        view=view,
        refuses_anonymous=302,
        refuses_unpermitted=403,
        joins=joins,
    )


PLACEMENTS = [
    *OPEN,
    members("dispatch-below-login-required", OnDispatchBelowLoginRequired.as_view()),
    members(
        "as-view-below-login-required",
        login_required(idempotent(OrderView.as_view())),
    ),
    members("login-mixin-method", MembersOnlyOnMethod.as_view(), "atomic_requests"),
    members("login-mixin-dispatch", MembersOnlyOnDispatch.as_view()),
    members("login-mixin-as-view", idempotent(MembersOnly.as_view())),
    permitted(
        "permission-mixin-method", PermittedOnMethod.as_view(), "atomic_requests"
    ),
    permitted("permission-mixin-dispatch", PermittedOnDispatch.as_view()),
    permitted("permission-mixin-as-view", idempotent(Permitted.as_view())),
]
