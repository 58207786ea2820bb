"""No success is told of work that is not there.

The rule: an answer below 400 that a view returned is committed, whoever made it, with
and without a key, and in both shapes. Whether it is replayed is another question.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import orders
from tests.support.records import states
from tests.testapp.models import Order

KEY = "1f0a4e0e-6c83-4d5b-9c53-1f63a3c1d0aa"
METHODS = ["POST", "PUT", "PATCH", "DELETE"]

pytestmark = [
    pytest.mark.urls(__name__),
    pytest.mark.django_db(transaction=True),
]

# What can be answered: a status, and where a redirect leads ({path}: this very page).
ANSWERS = {
    "done": (200, ""),
    "created": (201, ""),
    "empty": (204, ""),
    "next-page": (303, "/thanks/"),
    "signed-up": (302, "/accounts/login/"),
    "logged-out": (302, "/accounts/login/?next=/account/"),
    "other-host": (302, "https://id.test/accounts/login/?next={path}"),
    "home": (302, "/"),
    "must-sign-in": (302, "/accounts/login/?next={path}"),
}
INVITATIONS = {"must-sign-in"}
"""The answers that are never replayed, whatever the policy says."""


def place_order(request: Any) -> tuple[int, str]:
    Order.objects.create()
    status, location = ANSWERS[request.GET["answer"]]
    return status, location.format(path=request.path)


def plain(request: HttpRequest) -> HttpResponse:
    status, location = place_order(request)
    headers = {"Location": location} if location else {}
    return HttpResponse(status=status, headers=headers)


def rest(request: Request) -> Response:
    status, location = place_order(request)
    headers = {"Location": location} if location else {}
    return Response(status=status, headers=headers)


def function(policy: IdempotencyPolicy) -> Any:
    return idempotent(policy=policy)(plain)


def handler(policy: IdempotencyPolicy) -> Any:
    class OrderView(View):
        @method_decorator(idempotent(policy=policy))
        def post(self, request: HttpRequest) -> HttpResponse:
            return plain(request)

        put = patch = delete = post

    return OrderView.as_view()


def whole_class(policy: IdempotencyPolicy) -> Any:
    class OrderView(View):
        def post(self, request: HttpRequest) -> HttpResponse:
            return plain(request)

        put = patch = delete = post

    return idempotent(policy=policy)(OrderView.as_view())


def below_api_view(policy: IdempotencyPolicy) -> Any:
    return api_view(METHODS)(idempotent(policy=policy)(rest))


def mixin(policy: IdempotencyPolicy) -> Any:
    class OrderView(IdempotencyMixin, APIView):
        idempotency_policy = policy

        def post(self, request: Request) -> Response:
            return rest(request)

        put = patch = delete = post

    return OrderView.as_view()


def asynchronous(policy: IdempotencyPolicy) -> Any:
    @idempotent(policy=policy)
    async def order_view(request: HttpRequest) -> HttpResponse:
        return await sync_to_async(plain)(request)

    return order_view


PLACES: dict[str, Callable[[IdempotencyPolicy], Any]] = {
    "function": function,
    "handler": handler,
    "class": whole_class,
    "api-view": below_api_view,
    "mixin": mixin,
}
LEASED_PLACES = {"async": asynchronous}
LEASES = {"atomic": None, "leased": timedelta(minutes=1)}
KEEPS: dict[str, Callable[[Any], bool]] = {
    "keeps": lambda response: True,
    "refuses": lambda response: False,
}
CASES = [*product(PLACES, LEASES), *product(LEASED_PLACES, ["leased"])]
urlpatterns = [
    path(
        f"{place}/{shape}/{keep}/",
        {**PLACES, **LEASED_PLACES}[place](
            IdempotencyPolicy(required=False, lease=LEASES[shape], keep=KEEPS[keep])
        ),
    )
    for (place, shape), keep in product(CASES, KEEPS)
]


def send(method: str, url: str, key: str | None) -> tuple[int, bool, bool]:
    """Return the status, and whether it was a replay and ends the operation."""
    headers = {} if key is None else {"Idempotency-Key": key}
    answer: Any = Client().generic(method, url, headers=headers)
    marks = ("Idempotency-Replayed", "Idempotency-Ended")
    is_replay, is_end = (answer.headers.get(mark) == "true" for mark in marks)
    return answer.status_code, is_replay, is_end


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize(("place", "shape"), CASES)
def test_answer_below_400_is_committed_and_told_once_for_each_run(
    place: str, shape: str, keep: str, answer: str
) -> None:
    status, _ = ANSWERS[answer]
    is_end = answer not in INVITATIONS
    is_kept = keep == "keeps" and is_end

    for method in METHODS:
        url, key = f"/{place}/{shape}/{keep}/?answer={answer}", f"{KEY}-{method}"
        before = orders()

        assert send(method, url, None) == (status, False, False)
        assert orders() == before + 1
        assert [send(method, url, key) for _ in range(2)] == [
            (status, False, is_end),
            (status, is_kept, is_end),
        ]
        assert orders() == before + (2 if is_kept else 3)

    left = [] if answer in INVITATIONS else ["kept" if is_kept else "released"]
    assert states() == len(METHODS) * left


# What isn't a response


def as_json(view: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """What frameworks do with a view that returns data: make the answer further out."""

    def makes_the_response(request: HttpRequest) -> HttpResponse:
        return JsonResponse(view(request), safe=False)

    return makes_the_response


@pytest.mark.parametrize("lease", LEASES.values(), ids=list(LEASES))
@pytest.mark.parametrize("key", [KEY, None], ids=["key", "no-key"])
@pytest.mark.parametrize(
    ("result", "error", "sentence"),
    [
        (
            {"order": 1},
            ImproperlyConfigured,
            "test_success_is_committed.test_what_is_not_a_response_is_refused_inside_the_"
            "transaction.<locals>.view returned a dict, not an HttpResponse.",
        ),
        (None, ValueError, "didn't return an HttpResponse object. It returned None"),
    ],
    ids=["data", "nothing"],
)
def test_what_is_not_a_response_is_refused_inside_the_transaction(
    result: Any, error: type[Exception], sentence: str, key: str | None, lease: Any
) -> None:
    def view(request: HttpRequest) -> Any:
        request.idempotency.write("order", place)  # type: ignore[attr-defined]
        return result

    def place() -> None:
        Order.objects.create()

    request = RequestFactory().post("/orders/")
    if key is not None:
        request.META["HTTP_IDEMPOTENCY_KEY"] = key
    request.user = AnonymousUser()

    for _ in range(2):
        with pytest.raises(error, match=re.escape(sentence)):
            as_json(idempotent(required=False, lease=lease)(view))(request)

    # With a lease, what write() did is committed by itself and never done twice.
    assert orders() == (0 if lease is None else 2 if key is None else 1)


def test_lines_to_write_are_shown() -> None:
    @idempotent(required=False)
    def pay(request: HttpRequest) -> Any:
        return {}

    with pytest.raises(ImproperlyConfigured) as raised:
        pay(RequestFactory().post("/"))

    assert str(raised.value).endswith(
        "must stand around whatever makes the response. Nothing was committed. Write\n\n"
        "    @idempotent\n"
        "    @the_decorator_that_makes_the_response\n"
        "    def pay(request):"
    )
