"""Deliveries that nobody should send, to a real endpoint.

Each is answered 400 or 401, leaves no row, calls no handler, and nothing of it gets
into the log.
"""

import base64
import gzip
import io
import json
import logging
import socket
from threading import Thread
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer
from django.db import connection, connections
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import path

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import providers, webhook
from tests.integration.webhooks import receivers
from tests.integration.webhooks.receivers import only, scene, states, steps
from tests.support.cases import cases
from tests.support.deliveries import (
    ADYEN_SECRET,
    SECRET,
    Sent,
    deliver,
    github,
    stripe,
    stripe_signed,
)
from tests.testapp.models import Order

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

Log = pytest.LogCaptureFixture

STANDARD_SECRET = "whsec_" + base64.b64encode(b"not-for-the-log-either!!").decode()
MARK = "body-not-for-the-log"
OTHER_SECRET = "whsec_of_another"  # noqa: S105 - of these tests

urlpatterns = [
    *receivers.urlpatterns,
    path(
        "standard/",
        webhook(
            providers.STANDARD_WEBHOOKS,
            secrets=STANDARD_SECRET,
            endpoint="hostile-standard",
        )(receivers.handle),
    ),
    *[
        path(
            f"{mode}/of-another/",
            webhook(
                providers.STRIPE,
                secrets=OTHER_SECRET,
                endpoint=f"hostile-{mode}-of-another",
                inbox=mode == "inbox",
            )(receivers.handle),
        )
        for mode in ("inline", "inbox")
    ],
]


def _assert_nothing_happened(caplog: Log) -> None:
    assert not ProcessedEvent.objects.exists()
    assert scene.events == []
    log = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    for secret in (SECRET, STANDARD_SECRET, ADYEN_SECRET, MARK):
        assert secret not in log
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


EVENT = json.dumps({"id": "evt_1", "type": "paid", "note": MARK}).encode()
# All of them meet all verifiers in tests/unit.
HEADERS = {
    "empty": "",
    "é": "é",
    "timestamp 10^30": f"t={10**30},v1=00",
    "huge": "t=1,v1=" + "0,v1=" * 20_000,
    "NUL": "t=1\0,v1=0",
    "surrogate": "\udce9",
}
SIGNATURES = {
    "inline": ["Stripe-Signature"],
    "inbox": ["Stripe-Signature"],
    "gocardless": ["Webhook-Signature"],
    "standard": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_hostile_header_is_not_verified(name: str, caplog: Log) -> None:
    """F21; what each verifier makes of it is shown in `tests/unit`."""
    answers = {"none": deliver(f"/{name}/", Sent(EVENT))}
    for value_name, value in HEADERS.items():
        sent = Sent(EVENT, dict.fromkeys(SIGNATURES[name], value))
        answers[value_name] = deliver(f"/{name}/", sent)
    status = 498 if name == "gocardless" else 401

    assert {each: answer.status_code for each, answer in answers.items()} == (
        dict.fromkeys(answers, status)
    )
    _assert_nothing_happened(caplog)


# More of them in tests/unit/webhooks/test_profiles.py.
BODIES = {
    "F22 no UTF-8": b'\xff{"id": "evt_1"}',
    "F22 deep list": b"[" * 200_000,
    "FR-092 no id, of a type without a handler": b'{"type": "other"}',
    "FR-092 id with NUL": b'{"id": "evt\\u0000"}',
    "F25 id half a surrogate pair": b'{"id": "\\ud800"}',
    "account with NUL": b'{"id": "evt_1", "account": "acct\\u0000"}',
}


@pytest.mark.parametrize("path", ["/inline/", "/inbox/", "/rest/"])
def test_signed_body_that_cannot_be_used_is_refused(path: str, caplog: Log) -> None:
    """And not stored, so that no two of them hide each other."""
    answers = {
        name: deliver(path, stripe_signed(body)).status_code
        for name, body in BODIES.items()
    }

    assert answers == dict.fromkeys(BODIES, 400)
    _assert_nothing_happened(caplog)


ODD_MEMBERS = {
    "type with NUL": b'"type": "a\\u0000b"',
    "type half a surrogate pair": b'"type": "\\ud800"',
    "type an object": b'"type": {"deep": ' + b"[" * 400 + b"]" * 400 + b"}",
    "F25 long type": b'"type": "' + b"x" * 5_000 + b'"',
    "object with NUL": b'"data": {"object": {"id": "\\u0000"}}',
    "long object": b'"data": {"object": {"id": "' + b"x" * 5_000 + b'"}}',
    "object a list": b'"data": {"object": [1]}',
    "F25 long account": b'"account": "' + b"x" * 5_000 + b'"',
    "infinite time": b'"created": 1e400',
    "time long past": b'"created": -1e300',
    "time before the first year": b'"created": "0001-01-01T00:00:00+14:00"',
    "F24 NUL": b'"note": "\\u0000"',
}


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_odd_event_with_a_good_id_is_not_lost(path: str) -> None:
    for name, member in ODD_MEMBERS.items():
        body = b'{"id": "%s", %s}' % (name.encode(), member)
        statuses = [deliver(path, stripe_signed(body)).status_code for _ in range(2)]
        assert (name, statuses) == (name, [200, 200])
    steps()

    assert states() == dict.fromkeys(ODD_MEMBERS, "processed")
    assert sorted(scene.handled) == sorted(ODD_MEMBERS)
    assert Order.objects.count() == len(ODD_MEMBERS)


def test_odd_headers_beside_a_good_id_lose_no_event() -> None:
    sent = github(hook="7" * 300, body=EVENT)
    odd = Sent(sent.body, {**sent.headers, "X-GitHub-Event": "p\0\udce9"})

    assert deliver("/github/", odd).status_code == 200
    assert only().event_type == ""


@pytest.mark.parametrize(
    "content_type",
    ["", "application/x-www-form-urlencoded", "multipart/form-data", "é", "a" * 5_000],
)
def test_content_type_does_not_count(content_type: str) -> None:
    """Only the signature and the bytes do."""
    assert deliver("/inline/", stripe(), CONTENT_TYPE=content_type).status_code == 200


def _raw(name: str, head: bytes, body: bytes) -> int:
    """Send bytes that no client library would, and return the status."""

    def serve() -> None:
        server.handle_request()
        connections.close_all()

    with WSGIServer(("127.0.0.1", 0), WSGIRequestHandler) as server:
        server.timeout = 10
        server.set_app(WSGIHandler())
        thread = Thread(target=serve)
        thread.start()
        with socket.create_connection(("127.0.0.1", server.server_port), 10) as link:
            link.sendall(
                b"POST /%s/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n%s\r\n%s"
                % (name.encode(), len(body), head, body)
            )
            answer = link.makefile("rb").readline()
        thread.join(10)
    return int(answer.split()[1])


@cases(
    "head",
    {
        "none": b"",
        "empty": b"Stripe-Signature:\r\n",
        "not ASCII": b"Stripe-Signature: \xe9\xff\x01\r\n",
        "doubled": b"Stripe-Signature: t=1\r\nStripe-Signature: v1=00\r\n",
        "huge": b"Stripe-Signature: " + b"v1=0," * 10_000 + b"\r\n",
        "underscore": b"Stripe_Signature: t=1,v1=00\r\n",
    },
)
def test_hostile_bytes_over_the_wire_are_not_verified(head: bytes, caplog: Log) -> None:
    """F21"""
    assert _raw("inline", head, EVENT) == 401
    _assert_nothing_happened(caplog)


def test_header_sent_twice_counts_if_one_is_right() -> None:
    """F17, over the wire."""
    headers = github(body=EVENT).headers
    lines = ["X-Hub-Signature-256: sha256=" + "0" * 64]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head = "".join(f"{line}\r\n" for line in lines).encode()

    assert _raw("github", head, EVENT) == 200


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_delivery_counts_at_the_endpoint_that_it_is_signed_for(path: str) -> None:
    """Whoever has a secret neither runs, replays nor hides what comes to another one."""
    theirs, ours = stripe(secret=OTHER_SECRET), stripe()
    sent = [
        (f"{path}of-another/", theirs, 200),
        (path, theirs, 401),
        (f"{path}of-another/", ours, 401),
        (path, Sent(ours.body, theirs.headers), 401),
        (path, stripe(age=301), 401),
        (path, ours, 200),
        (path, ours, 200),
        (f"{path}of-another/", theirs, 200),
    ]
    answers = [deliver(url, each).status_code for url, each, _ in sent]
    steps()

    assert answers == [status for _, _, status in sent]
    assert scene.handled == ["evt_1", "evt_1"]
    assert ProcessedEvent.objects.filter(state="processed").count() == 2


TEXT = json.dumps({"id": "evt_1", "note": "é"}, ensure_ascii=False)
CODED = {
    **{
        code: TEXT.encode(code) for code in ("utf-16", "utf-32", "latin-1", "utf-8-sig")
    },
    "gzip": gzip.compress(TEXT.encode()),
    "two documents": TEXT.encode() * 2,
}


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_signed_body_in_another_coding_is_refused(path: str, caplog: Log) -> None:
    """It is never guessed: the signature says nothing of how its bytes are meant."""
    answers = {
        name: deliver(
            path, stripe_signed(body), HTTP_CONTENT_ENCODING="gzip", CONTENT_TYPE=kind
        ).status_code
        for name, body in CODED.items()
        for kind in (f"application/json; charset={name}", "application/json")
    }

    assert answers == dict.fromkeys(CODED, 400)
    _assert_nothing_happened(caplog)


class _Slow(io.BytesIO):
    """A body whose bytes are still coming when it is read."""

    def __init__(self, body: bytes, inside: list[bool]) -> None:
        super().__init__(body)
        self._inside = inside

    def read(self, size: int | None = -1, /) -> bytes:
        self._inside.append(connection.in_atomic_block)
        return super().read(size)


@cases(
    "size, told, status",
    {
        "slow": (len(EVENT), len(EVENT), 401),
        "longer than allowed": (2**21, 2**21, 413),
        "cut off": (10, len(EVENT), 401),
    },
)
def test_nothing_is_held_for_a_body_that_is_still_coming(
    size: int, told: int, status: int, caplog: Log
) -> None:
    inside: list[bool] = []
    body = EVENT.ljust(size)[:size]
    environ = RequestFactory()._base_environ(  # type: ignore[attr-defined]
        REQUEST_METHOD="POST",
        PATH_INFO="/inline/",
        CONTENT_LENGTH=str(told),
    )
    environ["wsgi.input"] = _Slow(body, inside)
    with CaptureQueriesContext(connection) as captured:
        handler: Any = WSGIHandler()
        answer = handler(environ, lambda *_: None)

    assert (answer.status_code, len(captured)) == (status, 0)
    assert set(inside) == (set() if status == 413 else {False})
    _assert_nothing_happened(caplog)
