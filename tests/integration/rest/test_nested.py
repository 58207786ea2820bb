"""A protected view called inside another: the outer operation holds."""

from __future__ import annotations

import pytest
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class Inner(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        Order.objects.create()
        if request.query_params.get("refuse"):
            raise ValidationError("no")
        return Response({"orders": Order.objects.count()}, status=201)


@api_view(["POST"])
@idempotent
def inner(request: Request) -> Response:
    Order.objects.create()
    if request.query_params.get("refuse"):
        raise ValidationError("no")
    return Response({"orders": Order.objects.count()}, status=201)


class Outer(IdempotencyMixin, APIView):
    def post(self, request: Request, which: str) -> Response:
        view = inner if which == "decorated" else Inner.as_view()
        if request.query_params.get("ignore"):
            view(request._request)
            return Response({"done": True}, status=201)
        times = 1 if request.query_params.get("refuse") else 2
        answers = [view(request._request) for _ in range(times)]
        return Response(
            [answer.status_code for answer in answers], status=answers[0].status_code
        )


urlpatterns = [path("outer/<which>/", Outer.as_view())]
WHICH = ["decorated", "mixin"]


@pytest.mark.parametrize("which", WHICH)
def test_inner_view_runs_each_time_it_is_called(which: str, either_way: bool) -> None:
    response = send(signed_in(), f"/outer/{which}/")

    assert (response.json(), orders()) == ([201, 201], 2)


@pytest.mark.parametrize("which", WHICH)
def test_only_the_outer_operation_is_recorded_and_replayed(
    which: str, either_way: bool
) -> None:
    client = signed_in()
    first, again = (send(client, f"/outer/{which}/") for _ in range(2))

    assert (again.content, is_replay(again)) == (first.content, True)
    assert IdempotencyRecord.objects.get().path == f"/outer/{which}/"
    assert orders() == 2


@pytest.mark.parametrize("which", WHICH)
def test_inner_refusal_is_the_outer_views_to_judge(which: str) -> None:
    """What one view raises, the view that called it gets as an answer."""
    response = send(signed_in(), f"/outer/{which}/?refuse=1")

    assert (response.status_code, states()) == (400, ["kept"])


@pytest.mark.parametrize("which", WHICH)
def test_inner_refusal_under_atomic_requests_rolls_back_as_without_us(
    which: str, atomic_requests: None
) -> None:
    response = send(signed_in(), f"/outer/{which}/?refuse=1")

    assert (response.status_code, orders()) == (400, 0)
    assert "kept" not in states()


@pytest.mark.parametrize("which", WHICH)
def test_success_over_an_inner_rollback_is_an_error(
    which: str, atomic_requests: None
) -> None:
    """Trap T8: 201 about work that is gone would be a lie."""
    response = send(signed_in(), f"/outer/{which}/?refuse=1&ignore=1")

    assert (response.status_code, orders()) == (500, 0)
