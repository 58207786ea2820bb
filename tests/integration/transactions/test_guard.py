"""Outside calls inside an atomic operation are found while one develops."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import requests
import stripe
import urllib3
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from rest_framework.exceptions import APIException
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.engine import outside_calls as guard
from django_idempotency.exceptions import UnkeyedOutsideCall
from django_idempotency.http import IdempotentRequest
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.tasks import run_once

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"


class Provider(BaseHTTPRequestHandler):
    """Another side, which answers whatever it is asked."""

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Provider) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/secret"
        server.shutdown()


def by_urllib3(url: str) -> None:
    with urllib3.PoolManager() as pool:
        pool.request("GET", url)


SENDERS: dict[str, Callable[[str], Any]] = {
    "httpx": httpx.get,
    "requests": requests.get,
    "urllib3": by_urllib3,
}
each_library = pytest.mark.parametrize("library", SENDERS)


def unprotected(request: HttpRequest, library: str) -> HttpResponse:
    SENDERS[library](request.GET["url"])
    return HttpResponse(status=201)


@idempotent
def keyed(request: IdempotentRequest, library: str) -> HttpResponse:
    request.idempotency.key_for("charge")
    return unprotected(request, library)


@idempotent
def stepped(request: IdempotentRequest, library: str) -> HttpResponse:
    def charge(key: str) -> None:
        SENDERS[library](request.GET["url"])

    request.idempotency.call("charge", charge)
    return HttpResponse(status=201)


def _by_stripe(url: str) -> Any:
    """Stripe's client makes a connection error of whatever is raised within it."""
    return stripe.StripeClient(
        "sk_test_x", base_addresses={"api": url}, max_network_retries=1
    ).v1.payment_intents.create(params={"amount": 1, "currency": "eur"})


class Translated(Exception):
    """What a project makes of its provider's errors."""


def swallowing(request: HttpRequest, way: str) -> HttpResponse:
    """Try to get around the guard, as careful handling of a provider's errors does."""
    url = request.GET["url"]
    try:
        (_by_stripe if way == "stripe" else httpx.get)(url)
    except Exception as error:
        if way == "translated":
            raise Translated from error
        if way == "refused":
            return HttpResponse(status=402)
    return HttpResponse(status=201)


class Swallowing(IdempotencyMixin, APIView):
    authentication_classes = ()

    def post(self, request: Any, way: str) -> HttpResponse:
        if way == "translated":
            try:
                httpx.get(request.GET["url"])
            except Exception as error:
                raise APIException from error  # answered by the framework
        return swallowing(request, way)


urlpatterns = [
    path("swallowing/<way>/", idempotent(swallowing)),
    path("swallowing-rest/<way>/", Swallowing.as_view()),
    path("careless/<library>/", idempotent(unprotected)),
    path("keyed/<library>/", keyed),
    path("stepped/<library>/", stepped),
    path("unprotected/<library>/", unprotected),
]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries watched, and afterwards as they were."""
    for owner, name in (
        (httpx.Client, "send"),
        (httpx.AsyncClient, "send"),
        (urllib3.HTTPConnectionPool, "urlopen"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))
    guard.install()


def post(view: str, library: str, url: str) -> int:
    path = f"/{view}/{library}/?url={url}"
    return Client().post(path, headers={"Idempotency-Key": KEY}).status_code


@each_library
def test_call_without_a_key_is_refused_with_its_line(
    library: str, provider: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_OUTSIDE_CALLS = "raise"

    with pytest.raises(UnkeyedOutsideCall, match=r"test_guard\.py:\d+ calls 127") as e:
        post("careless", library, provider)

    assert "secret" not in str(e.value)


@pytest.mark.parametrize("key", [{"Idempotency-Key": KEY}, {}], ids=["key", "no key"])
@pytest.mark.parametrize("way", ["passed over", "translated", "refused", "stripe"])
@pytest.mark.parametrize("view", ["swallowing", "swallowing-rest"])
def test_whatever_the_view_makes_of_it_the_call_is_told_when_it_returns(
    view: str,
    way: str,
    key: dict[str, str],
    provider: str,
    settings: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings.IDEMPOTENCY_OUTSIDE_CALLS = "raise"
    settings.IDEMPOTENCY_REQUIRED = False
    caplog.clear()

    with pytest.raises(UnkeyedOutsideCall, match=r"test_guard\.py:\d+ calls 127"):
        Client().post(f"/{view}/{way}/?url={provider}", headers=key)

    assert "test_guard.py:" in caplog.text


def test_task_that_passes_over_it_is_told(provider: str, settings: Any) -> None:
    settings.IDEMPOTENCY_OUTSIDE_CALLS = "raise"

    def receipt() -> None:
        with suppress(Exception):
            httpx.get(provider)

    with pytest.raises(UnkeyedOutsideCall):
        run_once("receipt:1", receipt)


@each_library
def test_call_without_a_key_is_logged(
    library: str, provider: str, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.IDEMPOTENCY_OUTSIDE_CALLS = "log"
    with caplog.at_level(logging.WARNING, "django_idempotency"):
        status = post("careless", library, provider)

    (line,) = (each for each in caplog.records if each.name == "django_idempotency")
    assert (status, "test_guard.py:" in line.getMessage()) == (201, True)


@each_library
@pytest.mark.parametrize("view", ["keyed", "stepped", "unprotected"])
def test_other_calls_are_no_affair_of_the_guard(
    view: str, library: str, provider: str, settings: Any
) -> None:
    settings.IDEMPOTENCY_OUTSIDE_CALLS = "raise"

    assert post(view, library, provider) == 201


@each_library
def test_guard_that_is_off_says_nothing(
    library: str, provider: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert post("careless", library, provider) == 201
    assert "calls 127" not in caplog.text


def test_atomic_task_is_guarded(provider: str, settings: Any) -> None:
    settings.IDEMPOTENCY_OUTSIDE_CALLS = "raise"

    with pytest.raises(UnkeyedOutsideCall):
        run_once("receipt:1", lambda: httpx.get(provider).status_code)


def test_guard_is_installed_once(provider: str) -> None:
    watched = httpx.Client.send
    guard.install()

    assert httpx.Client.send is watched
