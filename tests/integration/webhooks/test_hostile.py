"""Deliveries that nobody should send, to a real endpoint.

Each is answered 400 or 401, leaves no row, calls no handler, and nothing of it gets
into the log.
"""

from __future__ import annotations

import base64
import hmac
import json
import logging
import socket
import time
from threading import Thread
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.core.servers.basehttp import WSGIRequestHandler, WSGIServer
from django.db import connections
from django.test import Client
from django.urls import path

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, providers, verifiers, webhook

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

TEXT_SECRET = "whsec_not-for-the-log"  # noqa: S105 - the tests' own
KEY = b"not-for-the-log-either!!"
ADYEN_SECRET = KEY.hex()
STANDARD_SECRET = "whsec_" + base64.b64encode(KEY).decode()
TWILIO_URL = "https://shop.example/twilio/"
MARK = "body-not-for-the-log"

handled: list[Event] = []


@pytest.fixture(autouse=True)
def _nothing_handled() -> None:
    handled.clear()


def handle(event: Event) -> None:
    handled.append(event)


def _endpoint(name: str, profile: Any, secret: str, **options: Any) -> Any:
    endpoint = f"hostile-{name}"
    return path(
        f"{name}/",
        webhook(profile, secrets=secret, endpoint=endpoint, **options)(handle),
    )


urlpatterns = [
    _endpoint("stripe", providers.STRIPE, TEXT_SECRET),
    _endpoint("inbox", providers.STRIPE, TEXT_SECRET, inbox=True),
    _endpoint("standard", providers.STANDARD_WEBHOOKS, STANDARD_SECRET),
    _endpoint("svix", providers.SVIX, STANDARD_SECRET),
    _endpoint("github", providers.GITHUB, TEXT_SECRET, inbox=True),
    _endpoint("gocardless", providers.GOCARDLESS, TEXT_SECRET),
    _endpoint("slack", providers.SLACK, TEXT_SECRET),
    _endpoint("adyen", providers.ADYEN, ADYEN_SECRET),
    _endpoint("twilio", providers.TWILIO, TEXT_SECRET, url=TWILIO_URL),
]

STRIPE = verifiers.HMACVerifier(
    header="Stripe-Signature",
    signed="{timestamp}.{body}",
    timestamp_field="t",
    signature_field="v1",
)
PLAIN = verifiers.HMACVerifier(header="X-Signature")
STANDARD = verifiers.StandardWebhooksVerifier()


def _stripe(body: bytes) -> dict[str, str]:
    now = str(int(time.time()))
    signature = STRIPE.sign(TEXT_SECRET, body, timestamp=now)
    return {"Stripe-Signature": f"t={now},v1={signature}"}


def _github(body: bytes) -> dict[str, str]:
    return {
        "X-Hub-Signature-256": "sha256=" + PLAIN.sign(TEXT_SECRET, body),
        "X-GitHub-Delivery": "guid-1",
        "X-GitHub-Event": "push",
    }


def _standard(body: bytes, message_id: str = "msg_1") -> dict[str, str]:
    now = str(int(time.time()))
    entry = STANDARD.sign(STANDARD_SECRET, body, message_id=message_id, timestamp=now)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": now,
        "webhook-signature": entry,
    }


def _post(
    client: Client, name: str, body: bytes, headers: dict[str, str], **options: Any
) -> int:
    response = client.post(
        f"/{name}/",
        body,
        content_type=options.pop("content_type", "application/json"),
        headers=headers,
        **options,
    )
    return response.status_code


def _assert_nothing_happened(caplog: pytest.LogCaptureFixture) -> None:
    assert not ProcessedEvent.objects.exists()
    assert handled == []
    log = caplog.text + "".join(str(vars(record)) for record in caplog.records)
    for secret in (TEXT_SECRET, STANDARD_SECRET, ADYEN_SECRET, MARK):
        assert secret not in log
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


EVENT = json.dumps({"id": "evt_1", "type": "paid", "note": MARK}).encode()
HEADERS = {
    "none": None,
    "empty": "",
    "é": "é",
    "no comma": "v1",
    "bad base64": "v1,!!!!",
    "timestamp abc": "t=abc,v1=00",
    "timestamp nan": "t=nan,v1=00",
    "timestamp 1e9": "t=1e9,v1=00",
    "timestamp 10^30": f"t={10**30},v1=00",
    "huge": "t=1,v1=" + "0,v1=" * 20_000,
    "NUL": "t=1\0,v1=0",
    "surrogate": "\udce9",
}
SIGNATURES = {
    "stripe": ["Stripe-Signature"],
    "inbox": ["Stripe-Signature"],
    "standard": ["webhook-id", "webhook-timestamp", "webhook-signature"],
    "svix": ["svix-id", "svix-timestamp", "svix-signature"],
    "github": ["X-Hub-Signature-256", "X-GitHub-Delivery"],
    "gocardless": ["Webhook-Signature"],
    "slack": ["X-Slack-Signature", "X-Slack-Request-Timestamp"],
    "adyen": [],
    "twilio": ["X-Twilio-Signature"],
}


@pytest.mark.parametrize("value", list(HEADERS.values()), ids=list(HEADERS))
@pytest.mark.parametrize("name", list(SIGNATURES))
def test_hostile_header_is_not_verified(
    name: str, value: str | None, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """F21"""
    headers = {} if value is None else dict.fromkeys(SIGNATURES[name], value)

    status = _post(client, name, EVENT, headers)

    assert status == (498 if name == "gocardless" else 401)
    _assert_nothing_happened(caplog)


BODIES = {
    "F22 empty": b"",
    "F22 no UTF-8": b'\xff{"id": "evt_1"}',
    "F22 not JSON": b"id=evt_1",
    "F22 list": b'[{"id": "evt_1"}]',
    "F22 text": b'"evt_1"',
    "F22 number": b"1",
    "F22 null": b"null",
    "F22 deep list": b"[" * 200_000,
    "F22 deep object": b'{"id":' * 100_000,
    "FR-092 no id": b'{"type": "paid"}',
    "FR-092 id null": b'{"id": null}',
    "FR-092 id 0": b'{"id": 0}',
    "FR-092 id empty": b'{"id": ""}',
    "FR-092 id with NUL": b'{"id": "evt\\u0000"}',
    "F25 id list": b'{"id": ["evt_1"]}',
    "F25 id half a surrogate pair": b'{"id": "\\ud800"}',
    "account with NUL": b'{"id": "evt_1", "account": "acct\\u0000"}',
    "account list": b'{"id": "evt_1", "account": ["acct_1"]}',
}


@pytest.mark.parametrize("body", list(BODIES.values()), ids=list(BODIES))
@pytest.mark.parametrize("name", ["stripe", "inbox"])
def test_signed_body_that_cannot_be_used_is_refused(
    name: str, body: bytes, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert _post(client, name, body, _stripe(body)) == 400
    _assert_nothing_happened(caplog)


@pytest.mark.parametrize("message_id", ["", "msg\0", "msg\udce9"])
def test_header_without_usable_id_is_refused(
    message_id: str, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-092"""
    headers = _github(EVENT) | {"X-GitHub-Delivery": message_id}

    assert _post(client, "github", EVENT, headers) == 400
    _assert_nothing_happened(caplog)


def test_two_events_without_id_do_not_hide_each_other(client: Client) -> None:
    """FR-092: else the second would be a duplicate of the first, and lost."""
    bodies = [b'{"type": "a"}', b'{"type": "b"}', b'{"id": null}', b'{"id": ""}']

    statuses = [_post(client, "stripe", body, _stripe(body)) for body in bodies]

    assert statuses == [400] * 4


@pytest.mark.parametrize("name", ["stripe", "inbox"])
def test_long_ids_are_events_of_their_own(name: str, client: Client) -> None:
    """F25: 5,000 characters that differ in the last."""
    bodies = [json.dumps({"id": "x" * 4_999 + last}).encode() for last in "ab"]

    statuses = [_post(client, name, body, _stripe(body)) for body in [*bodies, *bodies]]

    assert statuses == [200] * 4
    assert ProcessedEvent.objects.count() == 2


@pytest.mark.parametrize(
    "member",
    [
        b'"type": "a\\u0000b"',
        b'"type": "\\ud800"',
        b'"type": {"deep": ' + b"[" * 400 + b"]" * 400 + b"}",
        b'"type": "' + b"x" * 5_000 + b'"',
        b'"data": {"object": {"id": "\\u0000"}}',
        b'"data": {"object": {"id": "' + b"x" * 5_000 + b'"}}',
        b'"data": {"object": [1]}',
        b'"account": "' + b"x" * 5_000 + b'"',
        b'"created": 1e400',
        b'"created": -1e300',
        b'"created": "0001-01-01T00:00:00+14:00"',
        b'"note": "\\u0000"',
    ],
    ids=[
        "type with NUL",
        "type half a surrogate pair",
        "type an object",
        "long type",
        "object with NUL",
        "long object",
        "object a list",
        "long account",
        "infinite time",
        "time long past",
        "time before the first year",
        "F24 NUL",
    ],
)
@pytest.mark.parametrize("name", ["stripe", "inbox"])
def test_odd_event_with_a_good_id_is_not_lost(
    name: str, member: bytes, client: Client
) -> None:
    body = b'{"id": "evt_1", ' + member + b"}"

    statuses = [_post(client, name, body, _stripe(body)) for _ in range(2)]

    assert statuses == [200, 200]
    assert ProcessedEvent.objects.get().event_id == "evt_1"


def test_odd_headers_beside_a_good_id_lose_no_event(client: Client) -> None:
    headers = _github(EVENT) | {
        "X-GitHub-Event": "p\0\udce9",
        "X-GitHub-Hook-ID": "7" * 300,
    }

    assert _post(client, "github", EVENT, headers) == 200
    assert ProcessedEvent.objects.get().event_type == ""


def test_handler_sees_the_id_that_counts(client: Client) -> None:
    """F23"""
    body = b'{"id": "a", "id": "b"}'

    assert _post(client, "stripe", body, _stripe(body)) == 200
    assert [(event.id, event.data["id"]) for event in handled] == [("b", "b")]


def test_forged_delivery_does_not_take_the_place_of_the_real_one(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """FR-093"""
    forged = _stripe(EVENT.replace(b"paid", b"free"))

    assert _post(client, "stripe", EVENT, forged) == 401
    _assert_nothing_happened(caplog)
    assert _post(client, "stripe", EVENT, _stripe(EVENT)) == 200
    assert [event.raw for event in handled] == [EVENT]


def test_body_that_was_written_again_is_not_verified(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """F18"""
    again = json.dumps(json.loads(EVENT), separators=(",", ":")).encode()

    assert _post(client, "stripe", again, _stripe(EVENT)) == 401
    _assert_nothing_happened(caplog)


@pytest.mark.parametrize(
    "content_type",
    ["", "application/x-www-form-urlencoded", "multipart/form-data", "é", "a" * 5_000],
)
def test_content_type_does_not_count(content_type: str, client: Client) -> None:
    """Only the signature and the bytes do."""
    status = _post(client, "stripe", EVENT, _stripe(EVENT), content_type=content_type)

    assert status == 200


def test_captured_delivery_under_another_id_is_not_verified(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The ``webhook-…`` headers are right, and ``svix-id`` is the sender's choice."""
    captured = _standard(EVENT)

    for name in ("svix", "standard"):
        headers = captured | {"svix-id": "msg_2"}
        if name == "standard":
            headers["webhook-id"] = "msg_2"
        assert _post(client, name, EVENT, headers) == 401
    _assert_nothing_happened(caplog)


def test_forged_item_spoils_the_batch(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """F34"""

    def item(reference: str, signed: str) -> dict[str, Any]:
        message = f"{signed}::Shop:order:1:EUR:AUTHORISATION:true".encode()
        digest = hmac.digest(KEY, message, "sha256")
        content = {
            "pspReference": reference,
            "merchantAccountCode": "Shop",
            "merchantReference": "order",
            "amount": {"value": 1, "currency": "EUR"},
            "eventCode": "AUTHORISATION",
            "success": "true",
            "additionalData": {"hmacSignature": base64.b64encode(digest).decode()},
        }
        return {"NotificationRequestItem": content}

    def status(*items: dict[str, Any]) -> int:
        body = json.dumps({"note": MARK, "notificationItems": items}).encode()
        return _post(client, "adyen", body, {})

    assert status(item("psp1", "psp1"), item("psp2", "psp1")) == 401
    _assert_nothing_happened(caplog)
    assert status(item("psp1", "psp1"), item("psp2", "psp2")) == 200
    assert len(handled) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b'{"notificationItems": []}',
        b'{"notificationItems": {}}',
        b'{"notificationItems": [null]}',
        b'{"notificationItems": [{"NotificationRequestItem": {}}]}',
        b"[" * 200_000,
    ],
    ids=["empty", "no UTF-8", "no items", "object", "null", "empty item", "deep"],
)
def test_hostile_batch_is_not_verified(
    body: bytes, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert _post(client, "adyen", body, {}) == 401
    _assert_nothing_happened(caplog)


def test_configured_address_counts_behind_a_proxy(client: Client) -> None:
    """F37: and no ``Host`` that the sender chooses."""
    parameters = {"MessageSid": "SM1", "MessageStatus": "sent"}
    signed = TWILIO_URL + "MessageSidSM1MessageStatussent"
    digest = hmac.digest(TEXT_SECRET.encode(), signed.encode(), "sha1")
    headers = {
        "X-Twilio-Signature": base64.b64encode(digest).decode(),
        "X-Forwarded-Host": "evil.example",
    }
    form = urlencode(parameters).encode()
    kind = "application/x-www-form-urlencoded"

    assert _post(client, "twilio", form, headers, content_type=kind) == 200


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


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"Stripe-Signature:\r\n",
        b"Stripe-Signature: \xe9\xff\x01\r\n",
        b"Stripe-Signature: t=1\r\nStripe-Signature: v1=00\r\n",
        b"Stripe-Signature: " + b"v1=0," * 10_000 + b"\r\n",
        b"Stripe_Signature: t=1,v1=00\r\n",
    ],
    ids=["none", "empty", "not ASCII", "doubled", "huge", "underscore"],
)
def test_hostile_bytes_over_the_wire_are_not_verified(
    head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """F21"""
    assert _raw("stripe", head, EVENT) == 401
    _assert_nothing_happened(caplog)


def test_header_sent_twice_counts_if_one_is_right() -> None:
    """F17, over the wire."""
    good = PLAIN.sign(TEXT_SECRET, EVENT)
    lines = [
        "X-Hub-Signature-256: sha256=" + "0" * 64,
        f"X-Hub-Signature-256: sha256={good}",
        "X-GitHub-Delivery: guid-1",
    ]
    head = "".join(f"{line}\r\n" for line in lines).encode()

    assert _raw("github", head, EVENT) == 200
