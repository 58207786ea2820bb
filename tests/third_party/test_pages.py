"""Pages that htmx, inertia and allauth make: sent twice, done once, shown the same."""

from typing import Any

import pytest
from allauth.account.views import SignupView
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.views.decorators.http import require_http_methods
from django_htmx.http import (
    HttpResponseClientRedirect,
    HttpResponseLocation,
    HttpResponseStopPolling,
    trigger_client_event,
)
from inertia import inertia, location

from django_idempotency.decorators import idempotent
from tests.support.ordering import (
    FORM,
    GUEST_KEY,
    is_replay,
    orders,
    place_order,
    send,
    signed_in_client,
)

METHODS = ["POST", "PUT", "PATCH", "DELETE"]


def ordering(response: Any) -> Any:
    """A view that orders and answers so."""

    @idempotent
    def view(request: HttpRequest) -> HttpResponse:
        place_order(request)
        made: HttpResponse = response()
        return made

    return view


def with_event() -> HttpResponse:
    response = HttpResponse("<p>Paid</p>")
    trigger_client_event(response, "paid", {"order": 1})
    return response


HTMX = {
    "redirect": lambda: HttpResponseClientRedirect("/orders/1/"),
    "location": lambda: HttpResponseLocation("/orders/1/"),
    "stop-polling": lambda: HttpResponseStopPolling("Paid"),
    "event": with_event,
}


@idempotent
@require_http_methods(METHODS)
@inertia("Order")
def inertia_order(request: HttpRequest) -> dict[str, object]:
    place_order(request)
    return {"paid": True}


@inertia("Order")
@idempotent
def below_inertia(request: HttpRequest) -> dict[str, object]:
    place_order(request)
    return {"paid": True}


sign_up = idempotent(SignupView.as_view())

urlpatterns = [
    *[path(f"htmx/{name}/", ordering(make)) for name, make in HTMX.items()],
    path("inertia/", inertia_order),
    path("inertia/elsewhere/", ordering(lambda: location("/elsewhere/"))),
    path("inertia/below/", below_inertia),
    path("sign-up/", sign_up, name="account_signup"),
    path("sign-in/", place_order, name="account_login"),
]

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


def shown(response: Any) -> tuple[Any, ...]:
    headers = {**response.headers}
    for name in ("Idempotency-Replayed", "Idempotency-Expires"):
        headers.pop(name, None)
    return response.status_code, response.reason_phrase, headers, response.content


@pytest.mark.parametrize("name", HTMX)
@pytest.mark.parametrize("method", METHODS)
def test_htmx_form_gets_the_same_instructions_again(name: str, method: str) -> None:
    """The key is in the form, with each of the methods that htmx sends."""
    client, body = signed_in_client(), f"idempotency_key={GUEST_KEY}"
    first, copy = (
        send(
            client, f"/htmx/{name}/", body, FORM, key=None, method=method,
            HX_Request="true",
        )
        for _ in range(2)
    )  # fmt: skip

    assert shown(copy) == shown(first)
    assert (is_replay(copy), orders()) == (True, 1)


@pytest.mark.parametrize("method", METHODS)
def test_inertia_page_is_the_same_again(method: str) -> None:
    client = signed_in_client()
    first, copy = (
        send(client, "/inertia/", method=method, X_Inertia="true") for _ in range(2)
    )

    assert shown(copy) == shown(first)
    assert (copy.json()["props"]["paid"], is_replay(copy), orders()) == (True, True, 1)


def test_order_that_sends_inertia_elsewhere_with_409_is_placed_once() -> None:
    """A view's own 409 is an answer: it is kept."""
    client = signed_in_client()
    first, copy = (send(client, "/inertia/elsewhere/") for _ in range(2))

    assert shown(copy) == shown(first)
    assert copy.headers["X-Inertia-Location"] == "/elsewhere/"
    assert (is_replay(copy), orders()) == (True, 1)


def test_below_the_decorator_that_makes_the_page_nothing_is_done() -> None:
    client = signed_in_client(raise_request_exception=False)

    response = send(client, "/inertia/below/")

    assert (response.status_code, orders()) == (500, 0)


def test_account_is_made_once() -> None:
    """Also if the first answer, which signs the new user in, never arrived."""
    form = {
        "username": "ann",
        "password1": "long-enough-1",
        "password2": "long-enough-1",
        "idempotency_key": GUEST_KEY,
    }
    first, copy = (Client().post("/sign-up/", form) for _ in range(2))

    assert [first.status_code, copy.status_code] == [302, 302]
    assert (copy.headers["Location"], is_replay(copy)) == (first["Location"], True)
    assert User.objects.filter(username="ann").count() == 1
