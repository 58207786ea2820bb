"""Function views among decorators, and class-based ones, wherever the check is."""

from typing import Any

from django.contrib.auth.decorators import (
    login_required,
    permission_required,
    user_passes_test,
)
from django.contrib.auth.mixins import LoginRequiredMixin, PermissionRequiredMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_POST

from django_idempotency.decorators import idempotent

from .placement import members, opened, order, permitted

MAY_ORDER = "testapp.add_order"
protected = idempotent(order)


@idempotent
def calls_another(request: HttpRequest) -> HttpResponse:
    return idempotent(order)(request)


FUNCTIONS = [
    opened("function", protected),
    opened("function-with-options", idempotent(max_body=10_000)(order)),
    members("below-login-required", login_required(protected)),
    permitted(
        "below-permission-required",
        permission_required(MAY_ORDER)(protected),
        anonymous=302,
        unpermitted=302,
    ),
    permitted(
        "below-permission-required-that-raises",
        permission_required(MAY_ORDER, raise_exception=True)(protected),
    ),
    permitted(
        "below-user-passes-test",
        user_passes_test(lambda user: user.has_perm(MAY_ORDER))(protected),
        anonymous=302,
        unpermitted=302,
    ),
    opened("below-csrf-exempt", csrf_exempt(protected)),
    opened("above-csrf-exempt", idempotent(csrf_exempt(order))),
    opened("below-atomic", transaction.atomic(protected), "always"),
    opened("above-atomic", idempotent(transaction.atomic(order))),
    opened("below-never-cache", never_cache(protected)),
    opened("above-never-cache", idempotent(never_cache(order))),
    opened("below-gzip-page", gzip_page(protected)),
    opened("above-gzip-page", idempotent(gzip_page(order))),
    opened("below-require-post", require_POST(protected)),
    opened("above-require-post", idempotent(require_POST(order))),
    opened("stacked", idempotent(protected)),
    opened("calls-another", calls_another),
]


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


as_view = idempotent(OrderView.as_view())


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


class Procedures(View):
    """Has no handlers, as views of GraphQL and RPC."""

    def dispatch(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponseBase:
        return order(request)


@method_decorator(idempotent, name="dispatch")
class OnceProcedures(Procedures): ...


class MembersOnlyProcedures(LoginRequiredMixin, OnceProcedures): ...


class Permitted(PermissionRequiredMixin, OrderView):
    permission_required = "testapp.add_order"


@method_decorator(idempotent, name="post")
class PermittedOnMethod(Permitted): ...


@method_decorator(idempotent, name="dispatch")
class PermittedOnDispatch(Permitted): ...


PLACEMENTS = [
    *FUNCTIONS,
    opened("method", OnMethod.as_view(), "atomic_requests"),
    opened("method-directly", DirectlyOnMethod.as_view(), "atomic_requests"),
    opened("class", OnClass.as_view(), "atomic_requests"),
    opened(
        "class-below-never-cache", OnClassBelowNeverCache.as_view(), "atomic_requests"
    ),
    opened("dispatch", OnDispatch.as_view()),
    opened("dispatch-directly", DirectlyOnDispatch.as_view()),
    opened("dispatch-by-name", OnDispatchByName.as_view()),
    opened("dispatch-below-csrf-exempt", OnDispatchBelowCsrfExempt.as_view()),
    opened("dispatch-twice", OnDispatchTwice.as_view()),
    opened("dispatch-and-method", OnDispatchAndMethod.as_view()),
    opened("as-view", as_view),
    opened("as-view-below-csrf-exempt", csrf_exempt(idempotent(OrderView.as_view()))),
    opened("as-view-below-atomic", transaction.atomic(as_view), "always"),
    opened("as-view-and-method", idempotent(OnMethod.as_view())),
    opened("as-view-and-dispatch", idempotent(OnDispatchByName.as_view())),
    opened("procedures-as-view", idempotent(Procedures.as_view())),
    opened("procedures-dispatch", OnceProcedures.as_view()),
    members(
        "procedures-below-login-mixin",
        MembersOnlyProcedures.as_view(),
        "atomic_requests",
    ),
    members("dispatch-below-login-required", OnDispatchBelowLoginRequired.as_view()),
    members("as-view-below-login-required", login_required(as_view)),
    members("login-mixin-method", MembersOnlyOnMethod.as_view(), "atomic_requests"),
    members("login-mixin-dispatch", MembersOnlyOnDispatch.as_view()),
    members("login-mixin-as-view", idempotent(MembersOnly.as_view())),
    permitted(
        "permission-mixin-method",
        PermittedOnMethod.as_view(),
        "atomic_requests",
        anonymous=302,
    ),
    permitted(
        "permission-mixin-dispatch", PermittedOnDispatch.as_view(), anonymous=302
    ),
    permitted(
        "permission-mixin-as-view", idempotent(Permitted.as_view()), anonymous=302
    ),
]
