"""django-ninja: below ``@api.post``, and whatever stands around an operation."""

import json
from typing import Any, cast

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from ninja import Body, NinjaAPI, Router
from ninja.decorators import decorate_view
from ninja.errors import HttpError
from ninja.security import django_auth

from django_idempotency.contrib.ninja import idempotent

from .placement import Placement, place_order

api = NinjaAPI(urls_namespace="placements")
router = Router()


def may_order(request: HttpRequest) -> Any:
    if not request.user.has_perm("testapp.add_order"):
        raise HttpError(403, "No.")
    return request.user


def place(request: HttpRequest, wish: Body[dict[str, Any]]) -> HttpResponse:
    content, status = place_order(wish)
    return JsonResponse(content, status=status)


protected = idempotent(place)


@idempotent
def answers_as_ninja_does(
    request: HttpRequest, wish: Body[dict[str, Any]], response: HttpResponse
) -> HttpResponse:
    content, response.status_code = place_order(wish)
    response.content = json.dumps(content)
    return response


@idempotent
def calls_another(request: HttpRequest, wish: Body[dict[str, Any]]) -> Any:
    return protected(request, wish)


# One function is one operation: each of these is registered once.
OPERATIONS: dict[str, Any] = {
    "function": protected,
    "with-options": idempotent(max_body=10_000)(place),
    "own-response": answers_as_ninja_does,
    "calls-another": calls_another,
    "below-atomic": transaction.atomic(idempotent(place)),
    "above-atomic": idempotent(transaction.atomic(place)),
    "below-decorate-view": decorate_view(never_cache)(idempotent(place)),
    "above-decorate-view": idempotent(decorate_view(never_cache)(place)),
}
for name, operation in OPERATIONS.items():
    api.post(f"/ninja-{name}/", url_name=name)(operation)
router.post("/ninja-router/", url_name="router")(idempotent(place))
api.add_router("", router)
api.post("/ninja-auth/", url_name="auth", auth=django_auth)(idempotent(place))
api.post("/ninja-permission/", url_name="permission", auth=may_order)(idempotent(place))

REFUSES: dict[str, tuple[int | None, int | None]] = {
    "auth": (401, None),
    "permission": (403, 403),
}
PLACEMENTS = [
    Placement(
        name=f"ninja-{name}",
        view=cast("Any", pattern).callback,
        # There is no way to switch ATOMIC_REQUESTS off for ninja's views.
        joins="always" if name == "below-atomic" else "atomic_requests",
        refuses_anonymous=REFUSES.get(name, (None, None))[0],
        refuses_unpermitted=REFUSES.get(name, (None, None))[1],
    )
    for pattern in api.urls[0]
    if (name := cast("Any", pattern).name) in {*OPERATIONS, *REFUSES, "router"}
]
