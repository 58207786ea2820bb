"""The mark says which answers use a key up: those of ours after which it is done."""

from datetime import timedelta
from typing import Any

import pytest
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path
from django.utils.http import parse_http_date
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.exceptions import OutcomeUnknown
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from tests.support.ordering import forgiving_client, send
from tests.support.records import record

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

SERVICES_MARK = {
    "Idempotency-Ended": "true",
    "Idempotency-Expires": "Sun, 06 Nov 1994 08:49:37 GMT",
}
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


def rest(request: Request) -> Response:
    status, headers = act(request)
    return Response("Sold.", status=status, headers=headers)


class Rest(IdempotencyMixin, APIView):
    def post(self, request: Request) -> Response:
        return rest(request)


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
SOON = timedelta(hours=3)


class RestSoon(Rest):
    idempotency_policy = IdempotencyPolicy(retention=SOON)


class RestLeased(Rest):
    idempotency_policy = IdempotencyPolicy(retention=SOON, lease=timedelta(minutes=1))


class RestErrors(Rest):
    idempotency_policy = IdempotencyPolicy(retention=SOON, keep_errors=True)


@idempotent(retention=SOON, lease=timedelta(minutes=1))
async def async_leased(request: HttpRequest) -> HttpResponse:
    return plain(request)


EXPIRING = {
    "soon-atomic": idempotent(retention=SOON)(plain),
    "soon-leased": idempotent(retention=SOON, lease=timedelta(minutes=1))(plain),
    "soon-async": async_leased,
    "soon-rest": RestSoon.as_view(),
    "soon-rest-leased": RestLeased.as_view(),
    "soon-rest-function": api_view(["POST"])(idempotent(retention=SOON)(rest)),
    "soon-rest-errors": RestErrors.as_view(),
}
urlpatterns = [
    *[path(f"{name}/", view) for name, view in {**VIEWS, **EXPIRING}.items()],
    path("passed-on/", idempotent(keep=lambda response: False)(plain)),
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


@pytest.mark.parametrize("does", ["201", "402", "429", "503", "raises-404"])
@pytest.mark.parametrize("name", EXPIRING)
def test_kept_answer_says_until_when_a_repeat_gets_it(name: str, does: str) -> None:
    """Never too late, and the same each time but for the claim's own moment."""
    client = forgiving_client()

    answers = [send(client, f"/{name}/?does={does}") for _ in range(3)]
    told = [each.headers.get("Idempotency-Expires") for each in answers]

    is_kept = does in ("201", "402") or (does, name) == (
        "raises-404",
        "soon-rest-errors",
    )
    if not is_kept:
        assert told == [None] * 3
        return
    until = int(record().expires_at.timestamp())
    first, *replays = (parse_http_date(each or "") for each in told)
    assert replays == [until] * 2
    assert until - 2 <= first <= until
    # The database rounds each moment on its own.
    off = record().expires_at - record().created_at - SOON
    assert abs(off) <= timedelta(microseconds=1)


def test_answer_that_no_repeat_gets_says_nothing_of_it() -> None:
    answer = send(forgiving_client(), "/passed-on/?does=201")

    assert is_end(answer)
    assert "Idempotency-Expires" not in answer.headers


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
