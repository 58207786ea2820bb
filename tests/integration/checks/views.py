"""Protected views that can't keep their promise, and their neighbours that can.

Each is in the URLconf under its name.
"""

from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.http import etag, last_modified
from rest_framework.decorators import action, api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin


def without_wraps(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator as they are often written: nothing is seen through it."""

    def outer(request: HttpRequest) -> Any:
        return view(request)

    return outer


def pay(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def pay_later(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


async def pay_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


MINUTE = timedelta(minutes=1)
function = idempotent(pay)
durable = transaction.atomic(durable=True)(pay)
leased: Any = idempotent(lease=MINUTE)


def half_made() -> Any:
    """A view with a name that isn't bound yet, as in code that is still importing."""
    later = HttpResponse

    def view(request: HttpRequest) -> HttpResponse:
        return later()  # noqa: F821 - that is the point

    del later
    return idempotent(view)


def timed(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator of the project's own: who knows what it does."""

    @wraps(view)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return wrapper


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


@method_decorator(leased, name="post")
class LeasedOnPost(OrderView): ...


@method_decorator([login_required, idempotent], name="post")
class BelowLoginOnPost(OrderView): ...


@method_decorator([permission_required("shop.add_order"), leased], name="dispatch")
class BelowPermissionOnDispatch(OrderView): ...


@method_decorator([timed, idempotent, never_cache], name="post")
class OwnDecoratorOutside(OrderView): ...


class Procedures(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponseBase:
        return HttpResponse()


@method_decorator(idempotent, name="dispatch")
class OnceProcedures(Procedures): ...


class CheckBeforeOnceProcedures(LoginRequiredMixin, OnceProcedures): ...


class OrderAPI(APIView):
    def post(self, request: Request) -> Response:
        return Response()


class ByMixin(IdempotencyMixin, OrderAPI): ...


class ByMixinSometimes(ByMixin):
    idempotency_policy = None


@api_view(["POST"])
@idempotent(keep_errors=True)
def rest_function(request: Request) -> Response:
    return Response()


class Orders(ViewSet):
    @action(detail=True, methods=["post"])
    @idempotent
    def pay(self, request: Request, pk: Any) -> Response:
        return Response()


class OrderOnPost(OrderAPI):
    @idempotent
    def post(self, request: Request) -> Response:
        return Response()


class ShortRetention(ByMixin):
    idempotency_policy = IdempotencyPolicy(retention=timedelta(hours=1))


@method_decorator(idempotent, name="dispatch")
class CallsItsHandler(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.post(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


RIGHT = {
    "calls-its-handler": CallsItsHandler.as_view(),
    "condition-below": idempotent(etag(lambda request: "1")(pay)),
    "function": function,
    "function-kept-for-a-day": idempotent(retention=timedelta(days=1))(pay),
    "function-with-its-own-transaction": idempotent(transaction.atomic(pay)),
    "half-made": half_made(),
    "leased": leased(pay),
    "leased-async": leased(pay_async),
    "leased-durable": leased(durable),  # nothing is open around it
    "below-login-required": login_required(function),
    "on-dispatch": OnDispatch.as_view(),
    "above-never-cache": idempotent(never_cache(pay)),
    "below-own-decorator": timed(function),
    "below-login-on-post": BelowLoginOnPost.as_view(),
    "below-permission-on-dispatch": BelowPermissionOnDispatch.as_view(),
    "own-decorator-outside": OwnDecoratorOutside.as_view(),
    "procedures": idempotent(Procedures.as_view()),
    "procedures-on-dispatch": CheckBeforeOnceProcedures.as_view(),
    "on-post": OnPost.as_view(),
    "around-as-view": idempotent(OrderView.as_view()),
    "unprotected": OrderView.as_view(),
    "unprotected-transaction": transaction.atomic(OrderView.as_view()),
    "rest-mixin": ByMixin.as_view(),
    "rest-mixin-sometimes": ByMixinSometimes.as_view(),
    "rest-function": rest_function,
    "rest-action": Orders.as_view({"post": "pay"}),
    "rest-post": OrderOnPost.as_view(),
    "rest-unprotected": OrderAPI.as_view(),
}


@method_decorator(idempotent, name="post")
class AsyncHandler(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class AtomicDispatch(OnPost):
    @transaction.atomic
    def dispatch(self, request: HttpRequest, *args: Any, **kw: Any) -> HttpResponseBase:
        return super().dispatch(request, *args, **kw)


@method_decorator(idempotent, name="dispatch")
class CheckBeforeProcedures(LoginRequiredMixin, Procedures): ...


@method_decorator(idempotent, name="post")
class HandlerThatNobodyCalls(Procedures):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@method_decorator(idempotent, name="dispatch")
class HandlerInTheWay(Procedures):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


class HandlerInside(Procedures):
    put = staticmethod(pay)


@method_decorator([idempotent, timed], name="post")
class OwnDecoratorOnPost(OrderView): ...


@method_decorator([leased, login_required], name="post")
class AccessCheckOnPost(OrderView): ...


@method_decorator(idempotent, name="post")
@method_decorator(login_required, name="post")
class AccessCheckOnPostBefore(OrderView): ...


@method_decorator([etag(lambda request: "1"), idempotent], name="post")
class ConditionOnPost(OrderView): ...


@method_decorator([idempotent, staff_member_required], name="dispatch")
class AccessCheckOnDispatch(OrderView): ...


WRONG = {
    "access-check-on-dispatch": AccessCheckOnDispatch.as_view(),
    "condition-above": last_modified(lambda request: None)(function),
    "condition-on-post": ConditionOnPost.as_view(),
    "check-before-procedures": CheckBeforeProcedures.as_view(),
    "handler-that-nobody-calls": HandlerThatNobodyCalls.as_view(),
    "handler-in-the-way": HandlerInTheWay.as_view(),
    "handler-in-the-way-of-as-view": idempotent(HandlerInside.as_view()),
    "own-decorator": idempotent(timed(pay)),
    "own-decorator-further-in": idempotent(never_cache(timed(pay_later))),
    "own-decorator-on-post": OwnDecoratorOnPost.as_view(),
    "access-check-on-post": AccessCheckOnPost.as_view(),
    "access-check-on-post-before": AccessCheckOnPostBefore.as_view(),
    "rest-short-retention": ShortRetention.as_view(),
    "async-handler": AsyncHandler.as_view(),
    "access-check-below": idempotent(without_wraps(login_required(pay))),
    "durable": idempotent(durable),
    "keep-errors": idempotent(keep_errors=True)(pay),
    "long-lease": idempotent(lease=timedelta(days=2))(pay),
    "long-window": idempotent(intent_window=timedelta(days=2))(pay),
    "short-retention": idempotent(retention=timedelta(hours=1))(pay),
    "atomic-above": transaction.atomic(function),
    "atomic-dispatch": AtomicDispatch.as_view(),
    "atomic-above-lease": transaction.atomic(leased(pay)),
    "atomic-as-view": transaction.atomic(idempotent(OrderView.as_view())),
}

urlpatterns = [path(f"{name}/", view) for name, view in {**RIGHT, **WRONG}.items()]


class Only:
    """A URLconf with one of the views, further in."""

    def __init__(self, view: Callable[..., Any]) -> None:
        inner = [path("", view), path("again/", view)]
        self.urlpatterns = [path("shop/", include((inner, "shop")))]
