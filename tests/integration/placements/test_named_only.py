"""What is decorated is protected, or refused before anything is done; never let through.

Views such as GraphQL's and RPC's work in `dispatch()` and have no handlers; classes
override the methods in which protection is set up.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.rest_framework import IdempotencyMixin
from tests.factories import UserFactory
from tests.support.cases import cases
from tests.support.ordering import is_replay, orders, place_order

pytestmark = pytest.mark.django_db

METHODS = ["POST", "PUT", "PATCH", "DELETE"]
KEY = {"Idempotency-Key": "6f1c0d0a-9b38-4f4e-8f5a-0d6a1a3b2c4d"}

# Each makes a new class, since some ways of protecting one change it.


def works() -> type[View]:
    class Works(View):
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return place_order(request)

    return Works


def works_in_a_helper() -> type[View]:
    class WorksInAHelper(View):
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return self.call_procedure(request)

        def call_procedure(self, request: HttpRequest) -> HttpResponse:
            return place_order(request)

    return WorksInAHelper


def works_decorated() -> type[View]:
    decorate = method_decorator(csrf_exempt, name="dispatch")
    return decorate(type("WorksDecorated", (works(),), {}))


def works_behind_another() -> type[View]:
    base = works()

    class WorksBehindAnother(base):  # type: ignore[valid-type, misc]
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    return WorksBehindAnother


def works_behind_a_check() -> type[View]:
    return type("WorksBehindACheck", (LoginRequiredMixin, works()), {})


def handles() -> type[View]:
    def handler(self: View, request: HttpRequest) -> HttpResponse:
        return place_order(request)

    return type("Handles", (View,), {each.lower(): handler for each in METHODS})


def handles_behind_another() -> type[View]:
    base = handles()

    class HandlesBehindAnother(base):  # type: ignore[valid-type, misc]
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    return HandlesBehindAnother


SHAPES = [
    works,
    works_in_a_helper,
    works_decorated,
    works_behind_another,
    works_behind_a_check,
    handles,
    handles_behind_another,
]


def in_the_body(view_class: type[View]) -> Any:
    class Decorated(view_class):  # type: ignore[valid-type, misc]
        @method_decorator(idempotent)
        def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    return Decorated.as_view()


WAYS: dict[str, Callable[[type[View]], Any]] = {
    "around as_view()": lambda each: idempotent(each.as_view()),
    "on dispatch": lambda each: method_decorator(idempotent, name="dispatch")(
        each
    ).as_view(),
    "in the body": in_the_body,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
@cases("protect", WAYS)
def test_class_is_protected_or_refused_before_anything_is_done(
    protect: Callable[[type[View]], Any], shape: Callable[[], type[View]], method: str
) -> None:
    assert outcome(lambda: protect(shape()), method) in (
        ["201", "201 replayed"],
        "refused",
    )


# In the body another dispatch() stands before the one that works.
DIRECT = {name: each for name, each in WAYS.items() if each is not in_the_body}


@pytest.mark.parametrize("shape", [works, works_in_a_helper, works_decorated])
@cases("protect", DIRECT)
def test_class_that_works_in_dispatch_and_has_no_check_before_it_is_protected(
    protect: Callable[[type[View]], Any], shape: Callable[[], type[View]]
) -> None:
    assert outcome(lambda: protect(shape()), "POST") == ["201", "201 replayed"]


def outcome(make: Callable[[], Any], method: str) -> str | list[str]:
    """Send a request and a copy; what came back, if there is as much as that says."""
    requests = [RequestFactory().generic(method, "/", headers=KEY) for _ in range(2)]
    for request in requests:
        request.user = UserFactory.build(pk=1)
        request._dont_enforce_csrf_checks = True  # type: ignore[attr-defined]
    try:
        view = make()
        answers: list[HttpResponseBase] = [view(each) for each in requests]
    except ImproperlyConfigured as refusal:
        shows_lines = "\n\n    " in str(refusal)
        return "refused" if orders() == 0 and shows_lines else f"refused: {refusal}"
    said = [f"{each.status_code}{' replayed' * is_replay(each)}" for each in answers]
    return said if orders() == 1 else [*said, f"{orders()} orders"]


def own_initial(self: Any, request: Request, *args: Any, **kwargs: Any) -> None:
    self.check_permissions(request)


def other_initial(self: Any, request: Request, *args: Any, **kwargs: Any) -> None:
    APIView.initial(self, request, *args, **kwargs)


def own_dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
    return place_order(request)


def other_dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
    return APIView.dispatch(self, request, *args, **kwargs)


INITIALS = [None, own_initial, other_initial]
DISPATCHES = [None, own_dispatch, other_dispatch]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("initial", "dispatch"), list(itertools.product(INITIALS, DISPATCHES))
)
def test_mixin_whose_methods_are_overridden_protects_or_refuses(
    initial: Any, dispatch: Any, method: str
) -> None:
    def handler(self: APIView, request: Request) -> Response:
        place_order(request._request)
        return Response(status=201)

    members: dict[str, Any] = {each.lower(): handler for each in METHODS}
    given = {"initial": initial, "dispatch": dispatch}
    members |= {name: each for name, each in given.items() if each is not None}

    def make() -> Any:
        made: Any = type("Orders", (IdempotencyMixin, APIView), members)
        return made.as_view()

    assert outcome(make, method) in (["201", "201 replayed"], "refused")
