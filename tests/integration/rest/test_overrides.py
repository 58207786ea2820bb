"""The view's own hooks run once, and a project's exception handler has the last word."""

from __future__ import annotations

from typing import Any

import pytest
from django.urls import path
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.testapp.models import Order

from .exchange import is_replay, orders, send, signed_in, states

pytestmark = [pytest.mark.urls(__name__), pytest.mark.usefixtures("db")]


class Counting(APIView):
    """Says in a header how often each hook has run for this request."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.calls: dict[str, int] = {}
        request._request.calls = self.calls  # type: ignore[attr-defined]
        super().initial(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Response:
        self._count("handle_exception")
        return super().handle_exception(exc)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Any:
        self._count("finalize_response")
        final = super().finalize_response(request, response, *args, **kwargs)
        final["X-Final"] = str(self.calls["finalize_response"])
        return final

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1

    def perform(self, request: Request) -> Response:
        Order.objects.create()
        data: Any = request.data
        match data.get("raises"):
            case "refusal":
                raise ValidationError("no")
            case "crash":
                raise RuntimeError("boom")
            case _:
                return Response({"done": True}, status=201)


class Mixin(IdempotencyMixin, Counting):
    def post(self, request: Request) -> Response:
        return self.perform(request)


class Decorated(Counting):
    @idempotent
    def post(self, request: Request) -> Response:
        return self.perform(request)


def tidy(error: Exception, context: Any) -> Response | None:
    """Turn whatever happens into JSON, as projects like to do."""
    if isinstance(error, RuntimeError):
        return Response({"error": "tidy"}, status=context["view"].tidy_status)
    return exception_handler(error, context)


class _Tidy(APIView):
    tidy_status = 500

    def get_exception_handler(self) -> Any:
        return tidy


class Tidy(IdempotencyMixin, _Tidy):
    def post(self, request: Request) -> Response:
        Order.objects.create()
        raise RuntimeError("boom")


class KeepingTidy(Tidy):
    idempotency_policy = IdempotencyPolicy(keep_errors=True)


class TidyBelow(_Tidy):
    @idempotent
    def post(self, request: Request) -> Response:
        Order.objects.create()
        raise RuntimeError("boom")


class KeepingTidyBelow(_Tidy):
    @idempotent(keep_errors=True)
    def post(self, request: Request) -> Response:
        Order.objects.create()
        raise RuntimeError("boom")


urlpatterns = [
    path("mixin/", Mixin.as_view()),
    path("below/", Decorated.as_view()),
    *(
        path(f"{view.__name__}/{status}/", view.as_view(tidy_status=status))
        for view in (Tidy, KeepingTidy, TidyBelow, KeepingTidyBelow)
        for status in (409, 500, 503)
    ),
]


def calls(response: Any) -> dict[str, int]:
    counted: dict[str, int] = response.wsgi_request.calls
    return counted


@pytest.mark.parametrize("path", ["/mixin/", "/below/"])
def test_finalize_response_runs_once_and_its_header_is_replayed(path: str) -> None:
    """Trap T11."""
    client = signed_in()
    first, again = (send(client, path) for _ in range(2))

    assert calls(first) == {"finalize_response": 1}
    assert (first.headers["X-Final"], again.headers["X-Final"]) == ("1", "1")
    assert calls(again) == {}


@pytest.mark.parametrize("path", ["/mixin/", "/below/"])
def test_handled_exception_is_handled_once(path: str, either_way: bool) -> None:
    response = send(signed_in(), path, {"raises": "refusal"})

    assert (response.status_code, orders()) == (400, 0)
    assert calls(response) == {"handle_exception": 1, "finalize_response": 1}


@pytest.mark.parametrize("path", ["/mixin/", "/below/"])
def test_unhandled_exception_is_handed_over_once(path: str, either_way: bool) -> None:
    response = send(signed_in(), path, {"raises": "crash"})

    assert (response.status_code, orders()) == (500, 0)
    assert calls(response) == {"handle_exception": 1}


@pytest.mark.parametrize("status", [409, 500, 503])
@pytest.mark.parametrize("view", ["Tidy", "TidyBelow"])
def test_tidy_answer_to_a_crash_is_released_with_its_work(
    view: str, status: int, either_way: bool
) -> None:
    """Trap T26: by the final answer; a crash that became 409 leaves no note."""
    client = signed_in()
    answers = [send(client, f"/{view}/{status}/") for _ in range(2)]

    assert [each.status_code for each in answers] == [status, status]
    assert answers[0].json() == {"error": "tidy"}
    assert not is_replay(answers[1])
    assert (orders(), "kept" in states()) == (0, False)


@pytest.mark.parametrize(("status", "noted"), [(409, []), (503, ["RuntimeError"])])
def test_crash_is_noted_if_the_final_answer_says_so(
    status: int, noted: list[str]
) -> None:
    send(signed_in(), f"/Tidy/{status}/")

    errors = IdempotencyRecord.objects.values_list("last_error", flat=True)
    assert [error.rpartition(".")[2] for error in errors] == noted


@pytest.mark.parametrize("view", ["KeepingTidy", "KeepingTidyBelow"])
def test_kept_error_is_judged_by_the_final_answer(view: str, either_way: bool) -> None:
    client = signed_in()
    kept = [send(client, f"/{view}/409/") for _ in range(2)]
    released = [send(client, f"/{view}/503/") for _ in range(2)]

    assert [is_replay(each) for each in kept + released] == [False, True, False, False]
    assert (kept[1].status_code, kept[1].content) == (409, kept[0].content)
    assert orders() == 0
