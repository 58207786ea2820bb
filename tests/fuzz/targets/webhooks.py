"""Deliveries of webhooks: who has signed them, and which events they contain.

An input may ask for what a stranger can't make, so that what is nearly right is met as
often as what is noise: a byte of `MADE` in a header stands for it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl

from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency.core.events import EventIdentity
from django_idempotency.webhooks import places, profiles, providers
from django_idempotency.webhooks.deliveries import Delivery, Rejected, Verified
from django_idempotency.webhooks.profiles import Profile
from django_idempotency.webhooks.receiver import _reply
from django_idempotency.webhooks.verifiers import hmacs
from django_idempotency.webhooks.verifiers import standard as standard_webhooks
from tests.fuzz.target import Target, as_header, parts_of, require, together

NOW = 1_700_000_000
LONG_AGO = NOW - 3600
TOLERANCE = 300
URL = "https://shop.example/hook/?a=1"
TEXT = "secret-of-the-tests"
KEY = b"0123456789abcdef01234567"
WHSEC = "whsec_" + base64.b64encode(KEY).decode()
HEX = "44782DEF547AAA06C910C43932B1EB0C71FC68D9D0C057550C48EC2ACF6BA056"

Headers = CaseInsensitiveMapping[str]


def hexadecimal(message: bytes, key: bytes = TEXT.encode()) -> str:
    return hmac.new(key, message, hashlib.sha256).hexdigest()


def in_base64(message: bytes, key: bytes = TEXT.encode(), kind: str = "sha256") -> str:
    return base64.b64encode(hmac.new(key, message, kind).digest()).decode()


def is_now(timestamp: str) -> bool:
    """Whether it is one of the spellings that are documented, and close enough."""
    from datetime import UTC, datetime

    if timestamp.isascii() and timestamp.isdigit() and timestamp[0] != "0":
        seconds = int(timestamp) / (1000 if len(timestamp) == 13 else 1)
        return len(timestamp) <= 13 and abs(NOW - seconds) <= TOLERANCE
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return abs(NOW - moment.timestamp()) <= TOLERANCE


def _fields(value: str, separator: str, name: str) -> list[str]:
    found = [each.strip().partition("=") for each in value.split(separator)]
    return [text for key, _, text in found if key == name]


def _stamped(
    header: str, separator: str, names: str, sign: Callable[[str], str]
) -> Any:
    """Stripe's and Paddle's way: a time and signatures in one header."""
    stamp, signature = names.split()

    def is_signed(headers: Headers, body: bytes) -> bool:
        value = headers.get(header, "")
        stamps = _fields(value, separator, stamp)
        message = sign(stamps[0]) if len(stamps) == 1 else None
        if message is None or not is_now(stamps[0]):
            return False
        expected = hexadecimal(message.encode("utf-8") + body)
        return expected in _fields(value, separator, signature)

    return is_signed


def _among(header: str, expected: Callable[[bytes], str]) -> Any:
    def is_signed(headers: Headers, body: bytes) -> bool:
        given = [each.strip() for each in headers.get(header, "").split(",")]
        return expected(body) in given

    return is_signed


def _slack(headers: Headers, body: bytes) -> bool:
    stamp = headers.get("X-Slack-Request-Timestamp", "")
    expected = "v0=" + hexadecimal(f"v0:{stamp}:".encode() + body)
    given = headers.get("X-Slack-Signature", "").split(",")
    return bool(stamp) and is_now(stamp) and expected in map(str.strip, given)


def _standard(family: str) -> Any:
    def is_signed(headers: Headers, body: bytes) -> bool:
        message_id, stamp, value = (
            headers.get(f"{family}-{name}", "")
            for name in ("id", "timestamp", "signature")
        )
        expected = in_base64(f"{message_id}.{stamp}.".encode() + body, KEY)
        is_there = bool(message_id) and bool(stamp)
        return is_there and is_now(stamp) and f"v1,{expected}" in value.split(" ")

    return is_signed


def _adyen(headers: Headers, body: bytes) -> bool:
    items = json.loads(body)["notificationItems"]
    return bool(items) and all(
        _adyen_item(each["NotificationRequestItem"]) for each in items
    )


def _adyen_item(item: dict[str, Any]) -> bool:
    fields = [item.get(name, "") for name in ("pspReference", "originalReference")]
    fields += [item.get("merchantAccountCode", ""), item.get("merchantReference", "")]
    fields += [str(item["amount"]["value"]), item["amount"]["currency"]]
    fields += [item.get("eventCode", ""), item.get("success", "")]
    expected = in_base64(":".join(fields).encode(), bytes.fromhex(HEX))
    return bool(expected == item["additionalData"]["hmacSignature"])


def _twilio(headers: Headers, body: bytes) -> bool:
    pairs = sorted(set(parse_qsl(body.decode(), keep_blank_values=True)))
    message = "".join(name + value for name, value in pairs)
    expected = [
        in_base64((address + message).encode(), kind="sha1")
        for address in (URL, URL.replace(".example", ".example:443"))
    ]
    return headers.get("X-Twilio-Signature") in expected


SIGNED: dict[str, tuple[Profile, tuple[str, ...], Any]] = {
    "stripe": (
        providers.STRIPE,
        ("Stripe-Signature",),
        _stamped("Stripe-Signature", ",", "t v1", "{}.".format),
    ),
    "paddle": (
        providers.PADDLE,
        ("Paddle-Signature",),
        _stamped("Paddle-Signature", ";", "ts h1", "{}:".format),
    ),
    "slack": (
        providers.SLACK,
        ("X-Slack-Signature", "X-Slack-Request-Timestamp"),
        _slack,
    ),
    "github": (
        providers.GITHUB,
        ("X-Hub-Signature-256",),
        _among("X-Hub-Signature-256", lambda body: "sha256=" + hexadecimal(body)),
    ),
    "gocardless": (
        providers.GOCARDLESS,
        ("Webhook-Signature",),
        _among("Webhook-Signature", hexadecimal),
    ),
    "razorpay": (
        providers.RAZORPAY,
        ("X-Razorpay-Signature",),
        _among("X-Razorpay-Signature", hexadecimal),
    ),
    "shopify": (
        providers.SHOPIFY,
        ("X-Shopify-Hmac-Sha256",),
        _among("X-Shopify-Hmac-Sha256", in_base64),
    ),
    "square": (
        providers.SQUARE,
        ("x-square-hmacsha256-signature",),
        _among(
            "x-square-hmacsha256-signature",
            lambda body: in_base64(URL.encode() + body),
        ),
    ),
    "standard": (
        providers.STANDARD_WEBHOOKS,
        ("webhook-id", "webhook-timestamp", "webhook-signature"),
        _standard("webhook"),
    ),
    "svix": (
        providers.SVIX,
        ("svix-id", "svix-timestamp", "svix-signature"),
        _standard("svix"),
    ),
    "adyen": (providers.ADYEN, (), _adyen),
    "twilio": (providers.TWILIO, ("X-Twilio-Signature",), _twilio),
}
NAMES = sorted(SIGNED)
SECRETS = {"standard": WHSEC, "svix": WHSEC, "adyen": HEX}


def _made(name: str, body: bytes) -> dict[bytes, bytes]:
    """What an input can ask for: a good signature, some that are nearly so, and times."""
    good, then = (_good(name, body, stamp) for stamp in (str(NOW), str(LONG_AGO)))
    other = good[:-2] + ("AA" if good[-2:] != "AA" else "BB")
    return {
        b"\x01": str(NOW).encode(),
        b"\x02": good.encode(),
        b"\x03": other.encode(),
        b"\x04": good[:-1].encode(),
        b"\x05": good.swapcase().encode(),
        b"\x06": hexadecimal(body, b"").encode(),
        b"\x07": str(LONG_AGO).encode(),
        b"\x08": then.encode(),
    }


def _good(name: str, body: bytes, stamp: str) -> str:
    hexes = {
        "stripe": f"{stamp}.".encode(),
        "paddle": f"{stamp}:".encode(),
        "slack": f"v0:{stamp}:".encode(),
    }
    if name in ("standard", "svix"):
        return in_base64(f"msg_1.{stamp}.".encode() + body, KEY)
    if name == "square":
        return in_base64(URL.encode() + body)
    if name == "shopify":
        return in_base64(body)
    if name == "twilio":
        try:
            pairs = sorted(set(parse_qsl(body.decode(), keep_blank_values=True)))
        except ValueError:
            pairs = []
        message = URL + "".join(key + value for key, value in pairs)
        return in_base64(message.encode("utf-8", "replace"), kind="sha1")
    return hexadecimal(hexes.get(name, b"") + body)


def delivery_of(name: str, body: bytes, values: list[bytes]) -> Delivery:
    made = _made(name, body)
    _, names, _ = SIGNED[name]
    headers = {}
    for header, value in zip(names, values, strict=False):
        for mark, text in made.items():
            value = value.replace(mark, text)
        headers[header] = as_header(value)
    return Delivery(
        body=body, headers=Headers(headers), url=URL, received_at=float(NOW)
    )


def run_signatures(data: bytes) -> str:
    number, one, two, three, body = parts_of(data, 5)
    name = NAMES[number[0] % len(NAMES) if number else 0]
    profile, _, is_signed = SIGNED[name]
    delivery = delivery_of(name, body, [one, two, three])
    secret = SECRETS.get(name, TEXT)
    # A blank one, and one of another kind, sign nothing and hinder nobody.
    verdict = profile.verifier.verify(delivery, ("", "whsec_!", secret))
    try:
        expected = is_signed(delivery.headers, body)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RecursionError,
    ):
        expected = False
    if isinstance(verdict, Verified):
        require(expected, "verified what nobody has signed", name, delivery)
        require(verdict.secret_index == 2, "by another secret", name, delivery)
        return "verified"
    require(
        not expected or name in STRICTER, "a good signature is refused", name, delivery
    )
    require(isinstance(verdict, Rejected), "no verdict", verdict)
    return "rejected"


STRICTER = {"adyen"}
"""Refuses what is signed and can be read in two ways."""


@contextmanager
def _by_prefix() -> Iterator[None]:
    def is_among(expected: bytes, given: Any) -> bool:
        return any(expected.startswith(each.encode()) for each in given)

    with (
        patch.object(hmacs, "is_among", is_among),
        patch.object(standard_webhooks, "is_among", is_among),
    ):
        yield


def _seeds_of_signatures() -> Iterator[bytes]:
    values: dict[str, tuple[bytes, ...]] = {
        "stripe": (b"t=\x01,v1=\x03,v1=\x02,v0=\x02",),
        "paddle": (b"ts=\x01;h1=\x02",),
        "slack": (b"v0=\x02", b"\x01"),
        "github": (b"sha256=\x02",),
        "standard": (b"msg_1", b"\x01", b"v1,\x03 v1,\x02 v1a,AAAA"),
        "svix": (b"msg_1", b"\x01", b"v1,\x02"),
    }
    for number, name in enumerate(NAMES):
        body = b'{"id":"evt_1"}'
        if name == "adyen":
            body = ADYEN
        elif name == "twilio":
            body = b"MessageSid=SM1&MessageStatus=sent"
        three = (*values.get(name, (b"\x02",)), b"", b"")[:3]
        yield together(bytes([number]), *three, body)
    # Nearly good: too old, and of two times.
    for value in (b"t=\x07,v1=\x08", b"t=\x07,t=\x01,v1=\x02"):
        number = NAMES.index("stripe")
        yield together(bytes([number]), value, b"", b"", b"{}")


def _adyen_body() -> bytes:
    item: dict[str, Any] = {
        "pspReference": "P",
        "merchantAccountCode": "M",
        "merchantReference": "O",
        "amount": {"value": 1130, "currency": "EUR"},
        "eventCode": "AUTHORISATION",
        "success": "true",
    }
    message = "P::M:O:1130:EUR:AUTHORISATION:true"
    signature = in_base64(message.encode(), bytes.fromhex(HEX))
    item["additionalData"] = {"hmacSignature": signature}
    return json.dumps(
        {"live": "true", "notificationItems": [{"NotificationRequestItem": item}]}
    ).encode()


ADYEN = _adyen_body()

SIGNATURES = Target(
    name="signatures",
    run=run_signatures,
    seeds=tuple(_seeds_of_signatures()),
    words=(
        *(b"t=\x01,", b"t=\x07,", b"ts=\x07;", b"v1=\x08", b"v1,\x08", b"\x08"),
        *(b"t=\x01", b"v1=\x02", b"ts=\x01", b"h1=\x02", b"sha256=\x02", b"v0=\x02"),
        *(
            b"v1,\x02",
            b"v1a,",
            b",",
            b";",
            b" ",
            b"=",
            b"\x01",
            b"\x02",
            b"\x03",
            b"\x04",
        ),
        *(b"\x05", b"\x06", b"\x07", b"\xe9", b"2023-11-14T22:13:20Z", b"000", b"1e9"),
        *(b"pspReference", b"hmacSignature", b"NotificationRequestItem", b"\n--\n"),
    ),
    outcomes=frozenset({"verified", "rejected"}),
    plants={
        "by prefix": _by_prefix,
        "any age": lambda: patch.object(hmacs, "is_recent", lambda *_: True),
        "two times": lambda: patch.object(hmacs.HMACVerifier, "_parsed", _last_time),
    },
)


def _last_time(
    self: hmacs.HMACVerifier,
    value: str,
    delivery: Delivery,
    parsed: Any = hmacs.HMACVerifier._parsed,
) -> Any:
    timestamp, signatures = parsed(self, value, delivery)
    if timestamp is None and self.timestamp_field:
        timestamp = _fields(value, self.separator, self.timestamp_field)[-1]
    return timestamp, signatures


EVENT_HEADERS = (
    *(
        "webhook-id",
        "svix-id",
        "X-GitHub-Delivery",
        "X-GitHub-Event",
        "X-GitHub-Hook-ID",
    ),
    *("X-Shopify-Event-Id", "X-Shopify-Topic", "X-Shopify-Shop-Domain"),
    *("X-Shopify-Triggered-At", "x-razorpay-event-id"),
)


def plain_ids(profile: Profile, delivery: Delivery) -> list[Any]:
    """What identifies the events, and whose they are, each part as it was sent."""
    text = delivery.body.decode()
    content: Any
    if profile.is_form:
        content = dict(parse_qsl(text, keep_blank_values=True))
    else:
        content = json.loads(text)
    items = content[profile.items] if profile.items else [content]
    if profile.item:
        items = [each[profile.item] for each in items]
    return [
        (
            [str(each) for each in _plain_values(profile.id, delivery, item)],
            [
                each if isinstance(each, str) else json.dumps(each)
                for each in _plain_values(profile.account, delivery, item)
                if each is not None
            ],
        )
        for item in items
    ]


def _plain_values(place: places.Place, delivery: Delivery, item: Any) -> list[Any]:
    names = [place] if isinstance(place, str) else place
    return [
        delivery.headers.get(name.removeprefix("header:"))
        if name.startswith("header:")
        else (item.get("links") or {}).get("organisation")
        if name == "links.organisation"
        else item.get(name)
        for name in names
    ]


def run_events(data: bytes) -> str:
    number, one, two, body, other = parts_of(data, 5)
    name = NAMES[number[0] % len(NAMES) if number else 0]
    profile, _, _ = SIGNED[name]
    seen: dict[Any, Any] = {}
    outcome = "unusable"
    for each, header in ((body, one), (other, two)):
        headers = dict.fromkeys(EVENT_HEADERS, as_header(header) or "msg_1")
        delivery = Delivery(
            body=each, headers=Headers(headers), url=URL, received_at=NOW
        )
        try:
            content = profile.parse(delivery)
            if profile.challenge and (reply := profile.challenge(content)):
                require(_reply(reply).status_code == 200, "no answer to a challenge")
                outcome = "challenge"
                continue
            events = profile.events(delivery, content)
        except places.UnusableDelivery:
            continue
        outcome = "events"
        ids = plain_ids(profile, delivery)
        require(len(ids) == len(events), "other events", name, each)
        for event, identity in zip(events, ids, strict=True):
            _require_usable(profile, delivery, event)
            row_id = event.identity_at("endpoint").row_id
            require(
                seen.setdefault(row_id, identity) == identity,
                "two events count as one",
                name,
                identity,
                seen[row_id],
            )
            elsewhere = event.identity_at("elsewhere").row_id
            require(elsewhere not in seen, "of another endpoint", name, identity)
    return outcome


def _require_usable(profile: Profile, delivery: Delivery, event: Any) -> None:
    for text in (event.id, event.type, event.account, event.object_key):
        require(len(text) <= 255 and places.is_storable(text), "a name", text)
    require(event.id, "no id", event)
    again = Delivery(body=event.raw, headers=delivery.headers, url=URL, received_at=NOW)
    stored = profile.stored_event(again, event)
    require(
        (stored.id, stored.account, repr(stored.data))
        == (event.id, event.account, repr(event.data)),
        "another event is stored",
        event,
        stored,
    )


def _unescaped(delivery: Delivery, item: Any, place: Any) -> list[str]:
    return [places._id_part(each) for each in places.values_at(delivery, item, place)]


def _cut(values: list[str]) -> str:
    return ":".join(values)[:20]


def _no_endpoint(self: EventIdentity) -> Any:
    from django_idempotency.core.keys import digest_id

    return digest_id(self.source, self.account, self.event_id)


LONG = "x" * 300

EVENTS = Target(
    name="events",
    run=run_events,
    seeds=(
        *(
            together(bytes([number]), b"", b"", body, body.replace(b"1", b"2"))
            for number, name in enumerate(NAMES)
            for body in [
                {
                    "adyen": b'{"live":"true","notificationItems":[{"NotificationRequestItem":{"eventCode":"A","pspReference":"1","success":"true"}},{"NotificationRequestItem":{"eventCode":"A","pspReference":"3","success":"true"}}]}',
                    "twilio": b"MessageSid=1&MessageStatus=sent",
                    "gocardless": b'{"events":[{"id":"1","action":"paid"},{"id":"E3"}]}',
                    "slack": b'{"event_id":"1","team_id":"T","event":{"type":"x"}}',
                    "stripe": b'{"id":"1","account":"a","livemode":true,"created":1700000000,"data":{"object":{"id":"in_1"}}}',
                }.get(name, b'{"event_id":"1","id":"1","type":"x","merchant_id":7}')
            ]
        ),
        together(
            bytes([NAMES.index("slack")]),
            b"",
            b"",
            b'{"type":"url_verification","challenge":"3eZ"}',
            b'{"type":"url_verification","challenge":"\\ud83d\\ude00"}',
        ),
        together(
            bytes([NAMES.index("twilio")]),
            b"",
            b"",
            b"MessageSid=a:b&MessageStatus=c",
            b"MessageSid=a&MessageStatus=b:c",
        ),
        together(
            bytes([NAMES.index("slack")]),
            b"",
            b"",
            b'{"event_id":"1","team_id":"a:b","api_app_id":"c"}',
            b'{"event_id":"1","team_id":"a","api_app_id":"b:c"}',
        ),
        together(
            bytes([NAMES.index("stripe")]),
            b"",
            b"",
            json.dumps({"id": LONG}).encode(),
            json.dumps(
                {"id": f"sha256:{hashlib.sha256(LONG.encode()).hexdigest()}"}
            ).encode(),
        ),
        together(
            bytes([NAMES.index("stripe")]),
            b"",
            b"",
            b'{"id":"' + b"x" * 300 + b'"}',
            b'{"id":"' + b"x" * 299 + b'y"}',
        ),
    ),
    words=(
        *(
            b'"id":',
            b'"event_id":',
            b'"events":[',
            b'"notificationItems":[',
            b"{",
            b"}",
        ),
        *(
            b'{"NotificationRequestItem":{',
            b"[",
            b"]",
            b",",
            b":",
            b'"',
            b"\\ud800",
            b"\\u0000",
        ),
        *(b"null", b"true", b"0", b"1e400", b"1.5", b"%3A", b"%25", b"&", b"=", b"NaN"),
        *(b"url_verification", b'"challenge":', b'"type":', b'"account":', b"\n--\n"),
        *(
            b'"created":',
            b"MessageSid=",
            b"MessageStatus=",
            b"0001-01-01T00:00:00+14:00",
        ),
    ),
    outcomes=frozenset({"events", "unusable", "challenge"}),
    plants={
        "unescaped": lambda: patch.object(profiles, "id_parts", _unescaped),
        "cut off": lambda: patch.object(profiles, "identity_of", _cut),
        "one endpoint": lambda: patch.object(
            EventIdentity, "row_id", property(_no_endpoint)
        ),
    },
)
