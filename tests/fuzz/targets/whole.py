"""Whole requests to a site with protected views and receivers, and its tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any
from unittest.mock import patch

from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.test import override_settings

from django_idempotency.core.keys import parse_key
from django_idempotency.http import requests
from django_idempotency.models import IdempotencyRecord, OperationIntent, ProcessedEvent
from django_idempotency.testing.signing import signed
from django_idempotency.webhooks import receiver
from django_idempotency.webhooks.deliveries import Verified
from tests.fuzz.site import RECEIVED
from tests.fuzz.target import Target, as_header, parts_of, require, together
from tests.fuzz.targets.keys import is_for_guests, plain_key
from tests.testapp.models import Order

PATHS = ("/pay/", "/pay/optional/", "/pay/leased/", "/pay/window/", "/nothing/")
METHODS = ("POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "post", "OPTIONS")
TYPES = (
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "text/plain",
    "",
)
PROFILES = (
    None,
    "django_idempotency.http.profiles.stripe_problem",
    "django_idempotency.http.profiles.acp_problem",
)
_handler: list[Any] = []


def answer_to(
    method: str, path: str, query: str, body: bytes, **meta: str
) -> tuple[int, dict[str, str], bytes]:
    """Send it as a server does; an exception of the site would be a 500."""
    if not _handler:
        _handler.append(WSGIHandler())
    got: list[Any] = []
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "testserver",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "CONTENT_LENGTH": str(len(body)),
        **meta,
    }
    response = _handler[0](environ, lambda *told: got.extend(told))
    content = b"".join(response)
    response.close()
    status, headers = got
    return int(status.split()[0]), dict(headers), content


MODELS = (IdempotencyRecord, OperationIntent, ProcessedEvent, Order)


def counts() -> list[int]:
    return [model._base_manager.count() for model in MODELS]


def emptied() -> None:
    with connection.cursor() as cursor:
        for model in MODELS:
            cursor.execute(f"DELETE FROM {model._meta.db_table}")  # noqa: S608


def run_site(data: bytes) -> str:
    """As a guest: what is refused leaves nothing, and what is accepted is done once."""
    first, key, accept, query, body = parts_of(data, 5)
    where, method, kind, asks, words = [*first, 0, 0, 0, 0, 0][:5]
    path, verb = PATHS[where % len(PATHS)], METHODS[method % len(METHODS)]
    meta = {
        "CONTENT_TYPE": TYPES[kind % len(TYPES)],
        "HTTP_ACCEPT": as_header(accept),
        "HTTP_X_REQUEST_ID": as_header(query),
        "HTTP_REFERER": as_header(accept),
        "HTTP_IDEMPOTENCY_CONFIRM": as_header(accept),
    }
    if key:
        meta["HTTP_IDEMPOTENCY_KEY"] = as_header(key)
    text = as_header(query)
    if asks % 2:
        meta["HTTP_IDEMPOTENCY_ASK"] = (
            METHODS[asks % len(METHODS)] if asks < 128 else text
        )
    emptied()
    with override_settings(IDEMPOTENCY_PROBLEM_RESPONSE=PROFILES[words % 3]):
        status, headers, content = answer_to(verb, path, text, body, **meta)
        require(status < 500, "an error of ours", status, content)
        records, intents, events, orders = counts()
        for refused in (records, intents, events):
            require(refused == 0 or status == 201, "refused, and a row is left", status)
        is_question = asks % 2 and verb not in ("HEAD", "OPTIONS")
        if is_question or verb in ("GET", "HEAD", "OPTIONS"):
            require(records == 0, "a question or a safe method has left a row", verb)
            if is_question and "/nothing/" not in path:
                require(
                    headers.get("Cache-Control") == "no-store", "may be kept", headers
                )
                require(orders == 0, "a question was carried out", verb)
            return "safe"
        if status != 201:
            require(orders == 0, "refused, and done", status, content)
            return "refused"
        require(orders == 1, "not done once", orders)
        if not records:
            return "without a key"
        [record] = IdempotencyRecord.objects.all()
        read = plain_key(as_header(key)) if key else record.key
        require(record.key == read or read is None, "another key", key, record.key)
        require(is_for_guests(record.key), "a guest's key can be guessed", record.key)
        again = answer_to(verb, path, text, body, **meta)
        require((again[0], again[2]) == (status, content), "another answer", again)
        require(again[1].get("Idempotency-Replayed") == "true", "no replay", again)
        other = answer_to(verb, path, text, body + b"&x=y", **meta)
        require(counts()[3] == 1 or other[0] == 201, "done again", other)
        require(other[0] != 201 or other[2] == content, "another one's key", other)
        return "done"


def _any_key(key: str) -> None: ...


@contextmanager
def _lower_case() -> Iterator[None]:
    with patch.object(requests, "parse_key", lambda raw: parse_key(raw).lower()):
        yield


UUID4 = b"6f1e1f5e-9c1b-4b7e-8c2b-4c5f6a7b8c9D"
PART = (
    b'--b\r\nContent-Disposition: form-data; name="idempotency_key"\r\n\r\n'
    + UUID4
    + b"\r\n--b--\r\n"
)

SITE = Target(
    name="site",
    run=run_site,
    seeds=(
        together(bytes([0, 0, 0, 0, 0]), UUID4, b"", b"a=1", b'{"a":1}'),
        together(
            bytes([1, 0, 1, 0, 1]), b"", b"text/html", b"", b"idempotency_key=" + UUID4
        ),
        together(bytes([1, 2, 2, 0, 2]), b"", b"text/html", b"", PART),
        together(bytes([2, 0, 0, 0, 0]), b'"' + UUID4 + b'"', b"", b"", b"[]"),
        together(bytes([3, 1, 3, 0, 1]), UUID4, b"", b"", b"text"),
        together(bytes([0, 4, 0, 1, 0]), UUID4, b"", b"", b""),
        together(bytes([0, 4, 0, 129, 0]), UUID4, b"", b"POST", b""),
        together(bytes([0, 0, 0, 0, 0]), b"guessed", b"", b"", b"{}"),
        together(bytes([1, 0, 1, 0, 0]), b'"12345678901234567890"', b"", b"", b"a=1"),
    ),
    words=(
        *(
            UUID4,
            b'"',
            b"\\",
            b",",
            b"idempotency_key=",
            b"text/html",
            b"*/*;q=0.5",
            b"%ff",
        ),
        *(b"--b\r\n", b"--b--\r\n", b'name="idempotency_key"', b"\r\n\r\n", b"&", b"="),
        *(b"POST", b"PUT", b"DELETE", b"http://testserver/", b"javascript:", b"\n--\n"),
    ),
    outcomes=frozenset({"safe", "refused", "done", "without a key"}),
    plants={
        "guessable": lambda: patch.object(requests, "require_unguessable", _any_key),
        "another case": _lower_case,
    },
    has_tables=True,
)

NAMES = sorted(RECEIVED)
URL = "http://testserver"


def run_receivers(data: bytes) -> str:
    """What is signed, whatever it is, is stored, handled or refused; the rest is nothing."""
    first, header, body = parts_of(data, 3)
    number, inbox, forged = [*first, 0, 0, 0][:3]
    name = NAMES[number % len(NAMES)]
    path = f"/hook/{name}/{'inbox' if inbox % 2 else 'inline'}/"
    profile, secret = RECEIVED[name]
    emptied()
    try:
        sent, made = signed(
            profile,
            secret if forged % 2 == 0 else "0" * 64,
            body,
            {"X-GitHub-Event": "push", "X-GitHub-Delivery": as_header(header) or "1"},
            url=URL + path,
        )
    except Exception:  # the provider couldn't sign it, either
        sent, made = body, {"X-Twilio-Signature": as_header(header)}
    meta = {
        "HTTP_" + each.upper().replace("-", "_"): value for each, value in made.items()
    }
    meta["CONTENT_TYPE"] = as_header(header)
    status, _, content = answer_to("POST", path, "", sent, **meta)
    require(status < 500, "an error of ours", name, status, content)
    _, _, events, orders = counts()
    if status not in (200, 204):
        require((events, orders) == (0, 0), "refused, and a row is left", name, status)
        return "refused"
    require(forged % 2 == 0, "believed", name, content)
    if inbox % 2 == 0:
        require(events == orders, "not each handled once", events, orders)
    again = answer_to("POST", path, "", sent, **meta)
    require(again[0] == status, "another answer to the same", again)
    require(counts()[2:] == [events, orders], "handled again", counts())
    return "events" if events else "acknowledged"


def _believing(*args: object) -> Verified:
    return Verified(0)


RECEIVERS = Target(
    name="receivers",
    run=run_receivers,
    seeds=tuple(
        together(bytes([number, mode, mode >> 1]), b"application/json", body)
        for number, name in enumerate(NAMES)
        for mode in (0, 1, 2)
        for body in [
            {
                "adyen": b'{"notificationItems":[{"NotificationRequestItem":{"eventCode":"A","pspReference":"1","success":"true","amount":{"value":1,"currency":"EUR"}}}]}',
                "twilio": b"MessageSid=1&MessageStatus=sent",
                "gocardless": b'{"events":[{"id":"1"},{"id":"2"}]}',
                "slack": b'{"type":"url_verification","challenge":"x","event_id":"1"}',
            }.get(name, b'{"id":"1","data":{"object":{"id":"2"}}}')
        ]
    ),
    words=(
        *(b'"id":', b'"', b"{", b"}", b"[", b"]", b":", b",", b"\\ud800", b"\\u0000"),
        *(
            b"null",
            b"true",
            b"1e400",
            b"NaN",
            b"-1",
            b'"created":',
            b'"type":',
            b"&",
            b"=",
        ),
        *(b"MessageSid", b'"event_id":', b"event_callback", b"\n--\n", b"\xff"),
    ),
    outcomes=frozenset({"events", "refused", "acknowledged"}),
    plants={
        "believing": lambda: patch.object(receiver, "_verdict", _believing),
    },
    has_tables=True,
)
