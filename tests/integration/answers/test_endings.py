"""The mark says which answers use a key up: those of ours after which it is done."""

from datetime import timedelta
from typing import Any

import pytest
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import OutcomeUnknown
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import forgiving_client, send

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

SERVICES_MARK = {"Idempotency-Ended": "true"}
"""Of a service that the view has asked, and whose headers it passes on."""

# What the view does: whether that ends the operation at the first try, and at a repeat.
ENDS = {
    "201": (True, True),
    "303": (True, True),
    "402": (True, True),
    "404": (True, True),
    "405": (False, False),
    "429": (False, False),
    "500": (False, False),
    "503": (False, False),
    "raises-404": (False, False),
    "raises-400": (False, False),
    "raises-500": (False, False),
}


def act(request: Any) -> tuple[int, dict[str, str]]:
    what = request.GET["does"]
    if what == "raises-404":
        raise Http404
    if what == "raises-400":
        raise ValidationError
    if what == "raises-500":
        raise ZeroDivisionError
    to = {"Location": "/orders/1/"} if what == "303" else {}
    return int(what), {**SERVICES_MARK, **to}


def plain(request: HttpRequest) -> HttpResponse:
    status, headers = act(request)
    return HttpResponse("Sold.", status=status, headers=headers)


class Rest(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        status, headers = act(request)
        return Response("Sold.", status=status, headers=headers)


leased: Any = idempotent(lease=timedelta(minutes=1))


def half_called(request: HttpRequest) -> HttpResponse:
    """Swallows that nobody knows whether the call happened."""

    def time_out(key: str) -> None:
        raise TimeoutError

    try:
        request.idempotency.call("charge", time_out, if_unknown="hold")  # type: ignore[attr-defined]
    except (TimeoutError, OutcomeUnknown):
        return HttpResponse("Sorry.")
    raise AssertionError


VIEWS = {"atomic": idempotent(plain), "leased": leased(plain), "rest": Rest.as_view()}
urlpatterns = [
    *[path(f"{name}/", view) for name, view in VIEWS.items()],
    path("held/", leased(half_called)),
]


def is_end(response: Any) -> bool:
    return bool(response.headers.get("Idempotency-Ended") == "true")


@pytest.mark.parametrize("does", ENDS)
@pytest.mark.parametrize("name", VIEWS)
def test_answer_of_the_view_ends_its_operation_if_it_is_kept(
    name: str, does: str
) -> None:
    client = forgiving_client()

    answers = [send(client, f"/{name}/?does={does}") for _ in range(2)]

    assert tuple(map(is_end, answers)) == ENDS[does]


def test_refusal_ends_the_operation_if_the_key_is_used_up() -> None:
    client, url = forgiving_client(), "/atomic/?does=201"
    send(client, url)

    assert is_end(send(client, url, b'{"other": 1}'))  # key-reused
    assert not is_end(send(client, url, key=None))
    assert not is_end(send(client, url, key="not a key"))


def test_held_operation_does_not_end_whatever_the_view_answers() -> None:
    client = forgiving_client()

    answers = [send(client, "/held/") for _ in range(2)]

    assert [each.status_code for each in answers] == [200, 409]
    assert not any(map(is_end, answers))


@pytest.mark.parametrize("name", VIEWS)
def test_redirect_is_told_to_whoever_can_not_see_one(name: str) -> None:
    client, url = forgiving_client(), f"/{name}/?does=303"
    told = [send(client, url, Idempotency_Redirect="tell") for _ in range(2)]
    seen = send(client, url)

    for each in told:
        assert (each.status_code, each.content, is_end(each)) == (204, b"", True)
        assert each.headers["Idempotency-Location"] == "/orders/1/"
        assert "Location" not in each.headers
    assert (seen.status_code, seen.headers["Location"]) == (303, "/orders/1/")
