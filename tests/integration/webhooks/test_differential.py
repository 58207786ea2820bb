"""Ours and the vendors' own libraries accept and refuse the same deliveries.

Each disagreement that is meant is listed with its direction and its reason; any other
fails, and so does one that is listed and no longer happens.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from django_idempotency.webhooks import providers, verifiers
from django_idempotency.webhooks.deliveries import Delivery, Verified, Verifier

from . import mutations, vendors
from .mutations import Case, Maker, mutated

pytestmark = pytest.mark.differential

CASES = 4_000


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A disagreement that is meant."""

    who_accepts: Literal["ours", "theirs"]
    when: Callable[[Case], bool]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One scheme, ours and theirs."""

    ours: Verifier
    theirs: Callable[[Delivery, str], bool]
    make: Maker
    differences: tuple[Difference, ...] = ()


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body.decode())
    except ValueError:
        return False
    return True


def _value(case: Case, *names: str) -> str:
    headers = case.delivery().headers
    return " ".join(headers.get(name, "") for name in names)


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

NOT_TEXT = Difference(
    who_accepts="ours",
    when=lambda case: not _is_text(case.body),
    reason="raises UnicodeDecodeError; we verify bytes, and answer 400 afterwards",
)
FUTURE = Difference(
    who_accepts="theirs",
    when=lambda case: int(_timestamp(case)) > case.received_at + 300,
    reason="accepts a timestamp however far in the future",
)
SPELLING = Difference(
    who_accepts="theirs",
    when=lambda case: not re.fullmatch("[1-9][0-9]*", _timestamp(case)),
    reason="reads a timestamp as Python's int() or float() does: +1, 01, 1.5, 1e9",
)
SEVERAL = Difference(
    who_accepts="ours",
    when=lambda case: "," in _value(case, *SIGNATURE_HEADERS).strip(),
    reason="compares the header as one signature; sent twice, it is joined by a comma",
)
SPACE = Difference(
    who_accepts="ours",
    when=lambda case: bool(re.search("^ | $|[,;] ", _header(case))),
    reason="refuses a space beside a signature",
)
NOT_ASCII = Difference(
    who_accepts="ours",
    when=lambda case: not _header(case).isascii(),
    reason="raises TypeError on a signature that isn't ASCII, though a right one follows",
)


def _header(case: Case) -> str:
    headers = case.delivery().headers
    return "".join(headers.get(name, "") for name in SIGNATURE_HEADERS)


def _lenient_base64(case: Case) -> bool:
    """Whether a signature is written otherwise than an encoder would write it."""
    entries = _value(case, "webhook-signature").split(" ")
    texts = [entry.partition(",")[2] for entry in entries if entry.startswith("v1,")]
    return any(base64.b64encode(_lenient(text)).decode() != text for text in texts)


def _lenient(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _unreadable_entry(case: Case) -> bool:
    for entry in _value(case, "webhook-signature").split(" "):
        version, comma, text = entry.partition(",")
        if not comma or "," in text:
            return True
        try:
            if version == "v1":
                base64.b64decode(text)
        except (binascii.Error, ValueError):
            return True
    return False


def _is_cut(case: Case) -> bool:
    return bool(re.search("v1=[0-9a-f]{64}=", _header(case)))


def _is_strict_secret(case: Case) -> bool:
    text = case.secret.removeprefix("whsec_")
    try:
        return bool(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except ValueError:
        return False


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


STRIPE_DIFFERENCES = (
    FUTURE,
    SPELLING,
    NOT_TEXT,
    NOT_ASCII,
    SPACE,
    Difference(
        who_accepts="theirs",
        when=lambda case: _header(case).count("t=") > 1,
        reason="takes the first of two timestamps; we refuse both",
    ),
    Difference(
        who_accepts="theirs",
        when=_is_cut,
        reason="cuts a signature at a second equals sign",
    ),
    Difference(
        who_accepts="ours",
        when=lambda case: bool(re.search("(^|,)v1(,|$)", _header(case))),
        reason="refuses all signatures because of a field without a value",
    ),
)
STANDARD_DIFFERENCES = (
    SPELLING,
    NOT_TEXT,
    Difference(
        who_accepts="ours",
        when=lambda case: not _is_json(case.body),
        reason="raises JSONDecodeError; we verify bytes, and answer 400 afterwards",
    ),
    Difference(
        who_accepts="ours",
        when=_unreadable_entry,
        reason="raises on an entry that it can't read, though a right one follows",
    ),
    Difference(
        who_accepts="theirs",
        when=_lenient_base64,
        reason="skips what isn't base64 in a signature; we compare what was sent",
    ),
    Difference(
        who_accepts="theirs",
        when=lambda case: case.secret.startswith("whpk_"),
        reason="takes the public key for a secret: whoever knows it could sign",
    ),
    Difference(
        who_accepts="theirs",
        when=lambda case: not _is_strict_secret(case),
        reason="skips what isn't base64 in a secret, down to the empty key",
    ),
)
PAIRS = {
    "stripe": Pair(
        ours=providers.STRIPE.verifier,
        theirs=vendors.stripe,
        make=mutations.stripe,
        differences=STRIPE_DIFFERENCES,
    ),
    "standardwebhooks": Pair(
        ours=providers.STANDARD_WEBHOOKS.verifier,
        theirs=vendors.standard_webhooks,
        make=mutations.standard_webhooks,
        differences=STANDARD_DIFFERENCES,
    ),
    "Adyen": Pair(
        ours=providers.ADYEN.verifier,
        theirs=vendors.adyen,
        make=mutations.adyen,
        differences=(
            Difference(
                who_accepts="theirs",
                when=lambda case: len(json.loads(case.body)["notificationItems"]) > 1,
                reason="looks at the first item of a batch only",
            ),
            Difference(
                who_accepts="theirs",
                when=lambda case: any(map(_is_ambiguous, _items(case))),
                reason="signs what can be read as other fields or types as well",
            ),
            Difference(
                who_accepts="theirs",
                when=lambda case: not _items(case),
                reason="takes a bare item, which Adyen doesn't send",
            ),
        ),
    ),
    "squareup": Pair(
        ours=providers.SQUARE.verifier,
        theirs=vendors.square,
        make=mutations.plain_hmac("x-square-hmacsha256-signature", encoding="base64"),
        differences=(
            NOT_TEXT,
            SEVERAL,
            SPACE,
            Difference(
                who_accepts="ours",
                when=lambda case: not case.body,
                reason="refuses an empty body; we answer it 400",
            ),
        ),
    ),
    "gocardless-pro": Pair(
        ours=providers.GOCARDLESS.verifier,
        theirs=vendors.gocardless,
        make=mutations.plain_hmac("Webhook-Signature"),
        differences=(SEVERAL, SPACE),
    ),
    "razorpay": Pair(
        ours=providers.RAZORPAY.verifier,
        theirs=vendors.razorpay,
        make=mutations.plain_hmac("X-Razorpay-Signature"),
        differences=(NOT_TEXT, SEVERAL, SPACE),
    ),
    "slack-sdk": Pair(
        ours=providers.SLACK.verifier,
        theirs=vendors.slack,
        make=mutations.slack,
        differences=(SPELLING, NOT_TEXT, SEVERAL, SPACE),
    ),
    "paddle-python-sdk": Pair(
        ours=providers.PADDLE.verifier,
        theirs=vendors.paddle,
        make=mutations.paddle,
        differences=(
            SPELLING,
            NOT_TEXT,
            SPACE,
            NOT_ASCII,
            Difference(
                who_accepts="theirs",
                when=lambda case: _header(case).count("ts=") > 1,
                reason="takes the last of two timestamps; we refuse both",
            ),
            Difference(
                who_accepts="ours",
                when=lambda case: bool(re.search("h2=|h1=[^;]*=", _header(case))),
                reason="raises ValueError on a field it doesn't know, or can't read",
            ),
        ),
    ),
    "twilio": Pair(
        ours=providers.TWILIO.verifier,
        theirs=vendors.twilio,
        make=mutations.twilio,
        differences=(
            Difference(
                who_accepts="ours",
                when=lambda case: "@" in case.url,
                reason="takes the colon before a password for the one before a port",
            ),
            NOT_TEXT,
        ),
    ),
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


def _explained(pair: Pair, case: Case, who_accepts: str) -> Difference | None:
    for difference in pair.differences:
        if difference.who_accepts != who_accepts:
            continue
        try:
            if difference.when(case):
                return difference
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
        ours = pair.ours.verify(case.delivery(), (case.secret,)) == Verified(0)
        theirs = _says_yes(pair, case)
        if ours == theirs:
            counts["both accept" if ours else "both refuse"] += 1
            continue
        difference = _explained(pair, case, "ours" if ours else "theirs")
        assert difference is not None, (ours, theirs, case)
        counts[difference.reason] += 1
    record_property("counts", dict(counts))

    assert min(counts["both accept"], counts["both refuse"]) > CASES / 8
    assert {each.reason for each in pair.differences} <= set(counts)


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
        ours = pair.ours.verify(case.delivery(), (case.secret,)) == Verified(0)
        assert ours or _lenient_base64(case) or _is_cut(case), case

    assert accepted > CASES / 8
