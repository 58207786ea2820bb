"""One leased view in each placement; also a URLconf."""

from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from django_idempotency.decorators import idempotent
from tests.integration.leased.scene import LEASE, scene

HAS_REST_FRAMEWORK = find_spec("rest_framework") is not None

leased = idempotent(lease=LEASE, wait=timedelta(0))
optional: Any = idempotent(lease=LEASE, wait=timedelta(0), required=False)


def answer(request: HttpRequest) -> HttpResponse:
    status, data = scene.enact(request)
    return JsonResponse(data, status=status)


async def async_answer(request: HttpRequest) -> HttpResponse:
    return await sync_to_async(answer)(request)


class Unprotected(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request)


class AsyncUnprotected(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await async_answer(request)


@method_decorator(leased, name="post")
class Method(Unprotected): ...


@method_decorator(leased, name="dispatch")
class Dispatch(Unprotected): ...


@method_decorator(leased, name="post")
class AsyncMethod(AsyncUnprotected): ...


@method_decorator(leased, name="dispatch")
class AsyncDispatch(AsyncUnprotected): ...


SYNC = {
    "plain": leased(answer),
    "method": Method.as_view(),
    "dispatch": Dispatch.as_view(),
    "as-view": leased(Unprotected.as_view()),
}
ASYNC = {
    "async": leased(async_answer),
    "async-method": AsyncMethod.as_view(),
    "async-dispatch": AsyncDispatch.as_view(),
    "async-as-view": leased(AsyncUnprotected.as_view()),
}
OTHERS = {
    "optional": optional(answer),
    "async-optional": optional(async_answer),
    "atomic": idempotent(answer),
}

EVERY_PLACEMENT = [*SYNC, *ASYNC]
urlpatterns: list[Any] = [
    path(f"{name}/", view) for name, view in {**SYNC, **ASYNC, **OTHERS}.items()
]
if HAS_REST_FRAMEWORK:
    EVERY_PLACEMENT += ["mixin", "api-view"]
    urlpatterns.append(path("", include("tests.integration.leased.rest_views")))
