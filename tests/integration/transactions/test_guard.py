"""Outside calls inside an atomic operation are found while one develops."""

import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
import requests
import urllib3
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from django_idempotency.decorators import idempotent
from django_idempotency.engine import outside_calls as guard
from django_idempotency.exceptions import UnkeyedOutsideCall
from django_idempotency.http import IdempotentRequest
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


urlpatterns = [
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
