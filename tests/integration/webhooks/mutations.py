"""Deliveries of every provider, made from a seed: right, spoilt, and odd but right."""

import base64
import hashlib
import hmac
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency.webhooks.deliveries import Delivery

SPELLINGS = ["{0}"] * 20 + [" {0}", "+{0}", "0{0}", "{0}.5", "{0}e0", "x"]
AGES = [0] * 12 + [100, 290, -1, -100, -290, 310, 3600, -310, -3600, 10**8, -(10**8)]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A delivery as it is put together."""

    secret: str
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    url: str = "https://shop.example/hook/"
    received_at: float = 0

    def delivery(self) -> Delivery:
        return Delivery(
            body=self.body,
            headers=CaseInsensitiveMapping(self.headers),
            url=self.url,
            received_at=self.received_at,
        )


Maker = Callable[[random.Random], Case]


def digest(key: bytes, message: bytes, algorithm: str = "sha256") -> bytes:
    return hmac.digest(key, message, algorithm)


def as_base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def word(rng: random.Random, alphabet: str = "abcXYZ019_-", longest: int = 12) -> str:
    return "".join(rng.choices(alphabet, k=rng.randint(1, longest)))


def json_body(rng: random.Random) -> bytes:
    content: dict[str, Any] = {
        "id": word(rng),
        "n": rng.randint(-(10**9), 10**9),
        "text": word(rng, 'aé€😀"\\ \n\0', 20),
        "list": [rng.random(), None, True],
    }
    separators = rng.choice([(",", ":"), (", ", ": ")])
    text = json.dumps(
        content, separators=separators, ensure_ascii=rng.random() < 0.5
    ) + rng.choice(["", "", "\n"])
    spoilt = rng.choice([b"\xff", b"no JSON", b"[]", b""])
    return spoilt if rng.random() < 0.05 else text.encode()


def timestamp(rng: random.Random) -> tuple[float, str, str]:
    """Now, what the sender takes for it, and what it signs.

    The first is early, late or oddly spelt; libraries sign the number that they read.
    """
    now = time.time()
    sent = rng.choice(SPELLINGS).format(int(now) - rng.choice(AGES))
    plain = sent.strip().lstrip("+0").removesuffix(".5").removesuffix("e0")
    return now, sent, plain if rng.random() < 0.5 else sent


def usually(rng: random.Random, right: str, odd: list[str]) -> str:
    return rng.choice([right] * 8 + odd)


def plain_hmac(header: str, *, encoding: str = "hex", prefix: str = "") -> Maker:
    """A signature over the body, or over address and body."""

    def make(rng: random.Random) -> Case:
        secret, body = word(rng), json_body(rng)
        case = Case(secret=secret, body=body)
        signed = case.url.encode() + body if header.startswith("x-square") else body
        raw = digest(secret.encode(), signed)
        text = raw.hex() if encoding == "hex" else as_base64(raw)
        return replace(case, headers={header: prefix + text})

    return make


def timestamped(header: str, right: str, *odd: str, signed: str, prefix: str) -> Maker:
    """A signature over timestamp and body, beside the timestamp in one header."""

    def make(rng: random.Random) -> Case:
        secret, body = prefix + word(rng), json_body(rng)
        now, text, counted = timestamp(rng)
        good = digest(secret.encode(), signed.format(counted).encode() + body).hex()
        spelt = usually(rng, right, list(odd)).format(t=text, good=good, bad="0" * 64)
        return Case(secret=secret, body=body, headers={header: spelt}, received_at=now)

    return make


stripe = timestamped(
    "Stripe-Signature",
    "t={t},v1={good}",
    "t={t},v1={bad},v1={good}",
    "t={t},v1={good},v0={bad}",
    "t={t},v1={good}=",
    "t={t},t=1,v1={good}",
    "t={t}, v1={good}",
    "v1,t={t},v1={good}",
    "t={t},v1=é,v1={good}",
    signed="{0}.",
    prefix="whsec_",
)
paddle = timestamped(
    "Paddle-Signature",
    "ts={t};h1={good}",
    "ts={t};h1={bad};h1={good}",
    "ts={t};h2=0;h1={good}",
    "ts={t}; h1={good}",
    "ts=1;ts={t};h1={good}",
    "ts={t};h1=a=b;h1={good}",
    "ts={t};h1=é;h1={good}",
    "h1={good}",
    signed="{0}:",
    prefix="pdl_",
)


def standard_webhooks(rng: random.Random) -> Case:
    key = rng.randbytes(rng.choice([24, 32, 33]))
    secret = rng.choice(["whsec_", "whsec_", "whsec_", "whpk_", ""]) + as_base64(key)
    # The library decodes what stands before the key, too, if it doesn't know it.
    used = base64.b64decode(secret.removeprefix("whsec_") + "==")
    secret = rng.choice([secret, secret, secret, secret.rstrip("="), secret + "!"])
    body, message_id = json_body(rng), "msg_" + word(rng, "abc019")
    now, text, signed = timestamp(rng)
    signature = as_base64(digest(used, f"{message_id}.{signed}.".encode() + body))
    odd = [
        f"v1,{as_base64(b'0' * 32)} v1,{signature}",
        f"v1a,{signature}",
        f"v1a,AAAA v1,{signature}",
        f"nonsense v1,{signature}",
        f"v1,A v1,{signature}",
        f"v1,{signature}.",
    ]
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": text,
        "webhook-signature": usually(rng, f"v1,{signature}", odd),
    }
    return Case(secret=secret, body=body, headers=headers, received_at=now)


def slack(rng: random.Random) -> Case:
    secret, body = word(rng), json_body(rng)
    now, text, signed = timestamp(rng)
    signature = digest(secret.encode(), f"v0:{signed}:".encode() + body).hex()
    headers = {
        "X-Slack-Request-Timestamp": text,
        "X-Slack-Signature": f"v0={signature}",
    }
    return Case(secret=secret, body=body, headers=headers, received_at=now)


def _adyen_item(rng: random.Random, key: bytes) -> dict[str, Any]:
    item: dict[str, Any] = {
        "pspReference": word(rng, "019ABC"),
        "originalReference": rng.choice(["", "", word(rng, "019ABC")]),
        "merchantAccountCode": word(rng),
        "merchantReference": rng.choice([word(rng), "a:b", "é", ""]),
        "amount": {"value": rng.randint(0, 10**6), "currency": "EUR"},
        "eventCode": rng.choice(["AUTHORISATION", "REFUND"]),
        "success": rng.choice(["true", "false"]),
    }
    if rng.random() < 0.2:
        odd = [("merchantAccountCode", "a:b"), ("success", True), ("eventCode", None)]
        item.update([rng.choice(odd)])
    if rng.random() < 0.1:
        item["amount"]["value"] = rng.choice(["1", 1.5, None, True])
    # In this order they are signed; of the amount, its two parts.
    fields = [
        part
        for value in item.values()
        for part in (value.values() if isinstance(value, dict) else [value])
    ]
    if rng.random() < 0.25:  # what isn't there is signed as empty
        item.pop("originalReference")
    signature = as_base64(digest(key, ":".join(map(str, fields)).encode()))
    if rng.random() < 0.1:
        signature = rng.choice(["", signature[:-2], as_base64(bytes(32)), "é"])
    if rng.random() < 0.1:
        item[rng.choice(["pspReference", "success", "unsigned"])] = "changed"
    if rng.random() < 0.95:
        item["additionalData"] = {"hmacSignature": signature, "other": "x"}
    return item


def adyen(rng: random.Random) -> Case:
    key = rng.randbytes(32)
    items = [_adyen_item(rng, key) for _ in range(rng.choice([0, 1, 1, 1, 1, 1, 2, 3]))]
    content: dict[str, Any] = {
        "live": "false",
        "notificationItems": [{"NotificationRequestItem": item} for item in items],
    }
    if items and rng.random() < 0.05:
        content = items[0]
    return Case(secret=key.hex().upper(), body=json.dumps(content).encode())


def twilio(rng: random.Random) -> Case:
    secret = word(rng)
    pairs = [(word(rng, "abAB"), word(rng, "xyé +&")) for _ in range(rng.randint(0, 6))]
    query = rng.choice(["", "?a=1", "?a=1&b=%20x"])
    host = rng.choice(["", "", "", "me:word@"]) + rng.choice(
        ["shop.example", "shop.example:443", "shop.example:8443", "Shop.Example"]
    )
    scheme = rng.choice(["https", "https", "http"])
    url = f"{scheme}://{host}/sms/{query}"
    body = urlencode(pairs).encode()
    signed = "".join(name + value for name, value in sorted(set(pairs)))
    if rng.random() < 0.3:
        body = json_body(rng)
        claimed = hashlib.sha256(body).hexdigest()
        claimed = rng.choice([claimed, claimed, claimed, "0" * 64])
        url += ("&" if query else "?") + f"bodySHA256={claimed}"
        signed = ""
    port = "443" if scheme == "https" else "80"
    signed_url = rng.choice(
        [
            url,
            url,
            url.replace(host, f"{host}:{port}"),
            url.replace(host, host.removesuffix(":443").removesuffix(":8443")),
        ]
    )
    raw = digest(secret.encode(), (signed_url + signed).encode(), "sha1")
    headers = {"X-Twilio-Signature": as_base64(raw)}
    return Case(secret=secret, body=body, headers=headers, url=url)


def mutated(case: Case, rng: random.Random) -> Case:
    """Spoil half of the deliveries, or some of them twice."""
    while rng.random() < 0.4:
        case = rng.choice(MUTATIONS)(case, rng)
    return case


def _flip(case: Case, rng: random.Random) -> Case:
    if not case.body:
        return case
    at = rng.randrange(len(case.body))
    changed = bytes([case.body[at] ^ 1 << rng.randrange(8)])
    return replace(case, body=case.body[:at] + changed + case.body[at + 1 :])


def _other_body(case: Case, rng: random.Random) -> Case:
    body = case.body
    bodies = [b"", body + b"\n", body.strip(), body[:-1], body + b"\xff", b"\xff"]
    return replace(case, body=rng.choice(bodies))


def _other_header(case: Case, rng: random.Random) -> Case:
    if not case.headers:
        return case
    name = rng.choice(sorted(case.headers))
    value = case.headers[name]
    changed = [value + more for more in ("0", " ", "é", "," + value)]
    changed += [value.upper(), value.swapcase(), value[:-1], value[1:]]
    changed += ["", "é", "0000, " + value, value.replace("=", "", 1)]
    changed += [word(rng, "=,;v10t")]
    return replace(case, headers={**case.headers, name: rng.choice(changed)})


def _no_header(case: Case, rng: random.Random) -> Case:
    if not case.headers:
        return case
    headers = dict(case.headers)
    del headers[rng.choice(sorted(headers))]
    return replace(case, headers=headers)


def _other_secret(case: Case, rng: random.Random) -> Case:
    secret = case.secret
    changed = [secret[:-1], secret.swapcase(), secret + "AAAA", "ab", " "]
    return replace(case, secret=rng.choice(changed))


def _other_url(case: Case, rng: random.Random) -> Case:
    urls = [case.url + "x", case.url.replace("https", "http"), case.url.upper()]
    return replace(case, url=rng.choice(urls))


def _trailing_form_field(case: Case, rng: random.Random) -> Case:
    return replace(case, body=case.body + rng.choice([b"&a=1", b"&", b"&=", b"&a"]))


MUTATIONS: list[Callable[[Case, random.Random], Case]] = [
    _flip,
    _other_body,
    _other_header,
    _other_header,
    _other_header,
    _no_header,
    _other_secret,
    _other_url,
    _trailing_form_field,
]
