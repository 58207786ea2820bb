"""Ours and the vendors' own libraries accept and refuse the same deliveries.

Each disagreement that is meant is listed with its direction and its reason; any other
fails, and so does one that is listed and no longer happens.
"""

import base64
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from django.http import QueryDict

from django_idempotency.webhooks import providers, verifiers
from django_idempotency.webhooks.deliveries import Delivery, Verified, Verifier

from . import mutations
from .mutations import Case, Maker, mutated

CASES = 4_000


# The vendors' own verification; what a library raises counts as a refusal.


def stripe(delivery: Delivery, secret: str) -> bool:
    from stripe import WebhookSignature

    header = delivery.headers.get("Stripe-Signature")
    WebhookSignature.verify_header(delivery.body, header, secret, 300)
    return True


def standard_webhooks(delivery: Delivery, secret: str) -> bool:
    from standardwebhooks import Webhook

    Webhook(secret).verify(delivery.body, dict(delivery.headers))
    return True


def adyen(delivery: Delivery, secret: str) -> bool:
    from Adyen.util import is_valid_hmac_notification

    return (
        is_valid_hmac_notification(json.loads(delivery.body.decode()), secret) is True
    )


def square(delivery: Delivery, secret: str) -> bool:
    from square.utils.webhooks_helper import verify_signature

    is_valid = verify_signature(
        request_body=delivery.body.decode(),
        signature_header=delivery.headers["x-square-hmacsha256-signature"],
        signature_key=secret,
        notification_url=delivery.url,
    )
    return is_valid is True


def gocardless(delivery: Delivery, secret: str) -> bool:
    from gocardless_pro import webhooks

    # Its public function parses the events, too, and fails on other bodies.
    webhooks._verify_signature(
        delivery.body, secret, delivery.headers.get("Webhook-Signature")
    )
    return True


def razorpay(delivery: Delivery, secret: str) -> bool:
    from razorpay.utility import Utility

    return (
        Utility().verify_webhook_signature(
            delivery.body.decode(), delivery.headers["X-Razorpay-Signature"], secret
        )
        is True
    )


def slack(delivery: Delivery, secret: str) -> bool:
    from slack_sdk.signature import SignatureVerifier

    verifier = SignatureVerifier(secret)
    return verifier.is_valid_request(delivery.body, dict(delivery.headers)) is True


def paddle(delivery: Delivery, secret: str) -> bool:
    from paddle_billing.Notifications import Secret, Verifier

    request = SimpleNamespace(body=delivery.body, headers=delivery.headers)
    return Verifier(maximum_variance=300).verify(request, Secret(secret)) is True


def twilio(delivery: Delivery, secret: str) -> bool:
    from twilio.request_validator import RequestValidator

    parameters = (
        delivery.body.decode()
        if "bodySHA256=" in delivery.url
        else QueryDict(delivery.body.decode())
    )
    given = delivery.headers.get("X-Twilio-Signature")
    return RequestValidator(secret).validate(delivery.url, parameters, given) is True


When = Callable[[Case], bool]


@dataclass(frozen=True)
class Difference:
    """A disagreement that is meant, and when it may be."""

    who_accepts: Literal["ours", "theirs"]
    when: When


def ours(when: When) -> Difference:
    return Difference("ours", when)


def theirs(when: When) -> Difference:
    return Difference("theirs", when)


Differences = dict[str, Difference]
"""By what the library does."""


@dataclass(frozen=True)
class Pair:
    """One scheme, ours and theirs."""

    ours: Verifier
    theirs: Callable[[Delivery, str], bool]
    make: Maker
    differences: Differences


def _fails(function: Callable[..., object], *arguments: Any) -> bool:
    try:
        function(*arguments)
    except ValueError:
        return True
    return False


def _header(case: Case, *names: str) -> str:
    headers = case.delivery().headers
    return "".join(headers.get(name, "") for name in names or SIGNATURE_HEADERS)


def _timestamp(case: Case) -> str:
    headers = case.delivery().headers
    for name in ("X-Slack-Request-Timestamp", "webhook-timestamp"):
        if name in headers:
            return headers[name]
    fields = headers.get("Stripe-Signature", headers.get("Paddle-Signature", ""))
    field = re.search(r"\bts?=([^,;]*)", fields)
    return field[1] if field else ""


SIGNATURE_HEADERS = (
    "Stripe-Signature",
    "Paddle-Signature",
    "X-Slack-Signature",
    "Webhook-Signature",
    "X-Razorpay-Signature",
    "x-square-hmacsha256-signature",
)

NOT_TEXT = {
    "raises UnicodeDecodeError; we verify bytes, and answer 400 afterwards": ours(
        lambda case: _fails(case.body.decode)
    )
}
FUTURE = {
    "accepts a timestamp however far in the future": theirs(
        lambda case: int(_timestamp(case)) > case.received_at + 300
    )
}
SPELLING = {
    "reads a timestamp as Python's int() or float() does: +1, 01, 1.5, 1e9": theirs(
        lambda case: not re.fullmatch("[1-9][0-9]*", _timestamp(case))
    )
}
SEVERAL = {
    "compares the header as one signature; sent twice, it is joined by a comma": ours(
        lambda case: "," in _header(case)
    )
}
SPACE = {
    "refuses a space beside a signature": ours(
        lambda case: bool(re.search("^ | $|[,;] ", _header(case)))
    )
}
NOT_ASCII = {
    "raises TypeError on a signature that isn't ASCII, though a right one follows": ours(
        lambda case: not _header(case).isascii()
    )
}


def _lenient_base64(case: Case) -> bool:
    """Whether a signature is written otherwise than an encoder would write it."""
    entries = _header(case, "webhook-signature").split(" ")
    texts = [entry.partition(",")[2] for entry in entries if entry.startswith("v1,")]
    return any(base64.b64encode(_lenient(text)).decode() != text for text in texts)


def _lenient(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _unreadable_entry(case: Case) -> bool:
    entries = [
        each.split(",") for each in _header(case, "webhook-signature").split(" ")
    ]
    return any(
        len(entry) != 2 or (entry[0] == "v1" and _fails(base64.b64decode, entry[1]))
        for entry in entries
    )


def _is_cut(case: Case) -> bool:
    return bool(re.search("v1=[0-9a-f]{64}=", _header(case)))


def _is_strict_secret(case: Case) -> bool:
    text = case.secret.removeprefix("whsec_")
    padded = text + "=" * (-len(text) % 4)
    return bool(text) and not _fails(partial(base64.b64decode, padded, validate=True))


def _items(case: Case) -> list[Any]:
    content = json.loads(case.body)
    wrapped = content.get("notificationItems", [])
    return [each["NotificationRequestItem"] for each in wrapped]


def _is_ambiguous(item: dict[str, Any]) -> bool:
    names = ["pspReference", "originalReference", "merchantAccountCode", "eventCode"]
    texts = [item.get(name, "") for name in [*names, "success"]]
    texts.append(item["amount"]["currency"])
    return (
        any(not isinstance(text, str) or ":" in text for text in texts)
        or type(item["amount"]["value"]) is not int
    )


STRIPE: Differences = {
    **FUTURE,
    **SPELLING,
    **NOT_TEXT,
    **NOT_ASCII,
    **SPACE,
    "takes the first of two timestamps; we refuse both": theirs(
        lambda case: _header(case).count("t=") > 1
    ),
    "cuts a signature at a second equals sign": theirs(_is_cut),
    "refuses all signatures because of a field without a value": ours(
        lambda case: bool(re.search("(^|,)v1(,|$)", _header(case)))
    ),
}
STANDARD: Differences = {
    **SPELLING,
    **NOT_TEXT,
    "raises JSONDecodeError; we verify bytes, and answer 400 afterwards": ours(
        lambda case: _fails(lambda: json.loads(case.body.decode()))
    ),
    "raises on an entry that it can't read, though a right one follows": ours(
        _unreadable_entry
    ),
    "skips what isn't base64 in a signature; we compare what was sent": theirs(
        _lenient_base64
    ),
    "takes the public key for a secret: whoever knows it could sign": theirs(
        lambda case: case.secret.startswith("whpk_")
    ),
    "skips what isn't base64 in a secret, down to the empty key": theirs(
        lambda case: not _is_strict_secret(case)
    ),
}
ADYEN: Differences = {
    "looks at the first item of a batch only": theirs(
        lambda case: len(json.loads(case.body)["notificationItems"]) > 1
    ),
    "signs what can be read as other fields or types as well": theirs(
        lambda case: any(map(_is_ambiguous, _items(case)))
    ),
    "takes a bare item, which Adyen doesn't send": theirs(
        lambda case: not _items(case)
    ),
}
SQUARE: Differences = {
    **NOT_TEXT,
    **SEVERAL,
    **SPACE,
    "refuses an empty body; we answer it 400": ours(lambda case: not case.body),
}
PADDLE: Differences = {
    **SPELLING,
    **NOT_TEXT,
    **SPACE,
    **NOT_ASCII,
    "takes the last of two timestamps; we refuse both": theirs(
        lambda case: _header(case).count("ts=") > 1
    ),
    "raises ValueError on a field it doesn't know, or can't read": ours(
        lambda case: bool(re.search("(^|;)s=|h2=|h1=[^;]*=", _header(case)))
    ),
}
TWILIO: Differences = {
    **NOT_TEXT,
    "takes the colon before a password for the one before a port": ours(
        lambda case: "@" in case.url
    ),
}
SQUARE_HEADER = "x-square-hmacsha256-signature"


PAIRS = {
    "stripe": Pair(providers.STRIPE.verifier, stripe, mutations.stripe, STRIPE),
    "standardwebhooks": Pair(
        providers.STANDARD_WEBHOOKS.verifier,
        standard_webhooks,
        mutations.standard_webhooks,
        STANDARD,
    ),
    "Adyen": Pair(providers.ADYEN.verifier, adyen, mutations.adyen, ADYEN),
    "squareup": Pair(
        providers.SQUARE.verifier,
        square,
        mutations.plain_hmac(SQUARE_HEADER, encoding="base64"),
        SQUARE,
    ),
    "gocardless-pro": Pair(
        providers.GOCARDLESS.verifier,
        gocardless,
        mutations.plain_hmac("Webhook-Signature"),
        {**SEVERAL, **SPACE},
    ),
    "razorpay": Pair(
        providers.RAZORPAY.verifier,
        razorpay,
        mutations.plain_hmac("X-Razorpay-Signature"),
        {**NOT_TEXT, **SEVERAL, **SPACE},
    ),
    "slack-sdk": Pair(
        providers.SLACK.verifier,
        slack,
        mutations.slack,
        {**SPELLING, **NOT_TEXT, **SEVERAL, **SPACE},
    ),
    "paddle-python-sdk": Pair(
        providers.PADDLE.verifier, paddle, mutations.paddle, PADDLE
    ),
    "twilio": Pair(providers.TWILIO.verifier, twilio, mutations.twilio, TWILIO),
}
GUARDED = {
    "stripe": verifiers.StripeLibraryVerifier,
    "standardwebhooks": verifiers.StandardWebhooksLibraryVerifier,
}


def _says_yes(pair: Pair, case: Case) -> bool:
    try:
        return pair.theirs(case.delivery(), case.secret)
    except Exception:
        return False


def _explained(pair: Pair, case: Case, who_accepts: str) -> str | None:
    """What the library does that explains it."""
    for reason, difference in pair.differences.items():
        if difference.who_accepts != who_accepts:
            continue
        try:
            if difference.when(case):
                return reason
        except Exception:  # noqa: S112 - another may explain it
            continue
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(PAIRS))
def test_ours_and_theirs_agree(
    name: str, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    monkeypatch.delenv("TEST_MODE", raising=False)  # Paddle's would stop the clock
    pair, rng = PAIRS[name], random.Random(name)  # noqa: S311 - to repeat it
    counts: Counter[str] = Counter()
    for _ in range(CASES):
        case = mutated(pair.make(rng), rng)
        we_do = pair.ours.verify(case.delivery(), (case.secret,)) == Verified(0)
        they_do = _says_yes(pair, case)
        if we_do == they_do:
            counts["both accept" if we_do else "both refuse"] += 1
            continue
        reason = _explained(pair, case, "ours" if we_do else "theirs")
        assert reason is not None, (we_do, they_do, case)
        counts[reason] += 1
    record_property("counts", dict(counts))

    assert min(counts["both accept"], counts["both refuse"]) > CASES / 8
    assert set(pair.differences) <= set(counts)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(GUARDED))
def test_guarded_library_never_accepts_what_ours_refuses(name: str) -> None:
    pair, rng = PAIRS[name], random.Random(name)  # noqa: S311 - to repeat it
    guarded: Verifier = GUARDED[name]()
    accepted = 0
    for _ in range(CASES):
        case = mutated(pair.make(rng), rng)
        if guarded.verify(case.delivery(), (case.secret,)) != Verified(0):
            continue
        accepted += 1
        we_do = pair.ours.verify(case.delivery(), (case.secret,)) == Verified(0)
        assert we_do or _lenient_base64(case) or _is_cut(case), case

    assert accepted > CASES / 8
