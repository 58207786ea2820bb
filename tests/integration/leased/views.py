"""One leased view in each placement; also a URLconf."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from django_idempotency.decorators import idempotent
from tests.integration.leased.scene import LEASE, scene

__all__ = ["EVERY_PLACEMENT", "urlpatterns"]

HAS_REST_FRAMEWORK = find_spec("rest_framework") is not None

EVERY_PLACEMENT = ["plain", "method", "dispatch", "as-view"]
if HAS_REST_FRAMEWORK:
    EVERY_PLACEMENT += ["mixin", "api-view"]

leased = idempotent(lease=LEASE, wait=timedelta(0))


def answer(request: HttpRequest) -> HttpResponse:
    status, data = scene.enact(request)
    return JsonResponse(data, status=status)


class Unprotected(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


@method_decorator(leased, name="post")
class Method(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


@method_decorator(leased, name="dispatch")
class Dispatch(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


optional: Callable[..., Any] = idempotent(
    lease=LEASE, wait=timedelta(0), required=False
)

urlpatterns: list[Any] = [
    path("plain/", leased(answer)),
    path("method/", Method.as_view()),
    path("dispatch/", Dispatch.as_view()),
    path("as-view/", leased(Unprotected.as_view())),
    path("optional/", optional(answer)),
    path("in-a-transaction/", transaction.atomic(leased(answer))),
    path("atomic/", idempotent(answer)),
]
if HAS_REST_FRAMEWORK:
    urlpatterns.append(path("", include("tests.integration.leased.rest_views")))
