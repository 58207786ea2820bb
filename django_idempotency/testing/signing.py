"""Signs a delivery as its provider does, for each kind of verifier."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks import Profile
from django_idempotency.webhooks.verifiers import (
    AdyenVerifier,
    HMACVerifier,
    StandardWebhooksLibraryVerifier,
    StandardWebhooksVerifier,
    StripeLibraryVerifier,
    TwilioVerifier,
)
from django_idempotency.webhooks.verifiers.adyen import _message
from django_idempotency.webhooks.verifiers.matching import (
    encoded,
    hex_key,
    text_key,
)

Signed = tuple[bytes, dict[str, str]]
"""The body and the headers."""


def signed(
    profile: Profile,
    secret: str,
    body: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    url: str,
) -> Signed:
    """Return the body and all headers of a delivery that is sent now.

    `headers` are those that the provider sends besides, such as the event's id; ids
    that the profile reads from a header, and that aren't given, are made up.

    Raises:
        ImproperlyConfigured: the profile's verifier can't be signed for.
    """
    given = {name.lower() for name in headers or {}}
    all_headers = dict(headers or {})
    for name in _names_of_ids(profile):
        if name.lower() not in given:
            all_headers[name] = str(uuid.uuid4())
    now = str(int(time.time()))
    match profile.verifier:
        case StripeLibraryVerifier():
            return _by_hmac(STRIPE, secret, body, all_headers, now, url)
        case HMACVerifier() as verifier:
            return _by_hmac(verifier, secret, body, all_headers, now, url)
        case StandardWebhooksVerifier(family=family) as verifier:
            return _standard(verifier, family, secret, body, all_headers, now)
        case StandardWebhooksLibraryVerifier():
            verifier = StandardWebhooksVerifier()
            return _standard(verifier, "webhook", secret, body, all_headers, now)
        case TwilioVerifier(header=header):
            signature = _twilio(secret, body, url)
            return body, {header: signature, **all_headers}
        case AdyenVerifier():
            return _adyen(secret, body), all_headers
        case verifier if hasattr(verifier, "signed_headers"):
            made: Mapping[str, str] = verifier.signed_headers(secret, body, url)
            return body, {**made, **all_headers}
        case verifier:
            name = type(verifier).__name__
            raise ImproperlyConfigured(
                f"Nothing here can sign for {name}, the verifier of the profile "
                f"{profile.name!r}. Give it a method that returns what its sender sends:"
                "\n\n    def signed_headers(self, secret, body, url):\n"
                '        return {"X-Signature": …}'
            )


STRIPE: Any = HMACVerifier(
    header="Stripe-Signature",
    signed="{timestamp}.{body}",
    timestamp_field="t",
    signature_field="v1",
    tolerance=StandardWebhooksVerifier.tolerance,
)


def _names_of_ids(profile: Profile) -> list[str]:
    places = (profile.id,) if isinstance(profile.id, str) else profile.id
    # With a signature over it, the id is one of the signed headers.
    return [
        part.removeprefix("header:") for part in places if part.startswith("header:")
    ]


def _by_hmac(
    verifier: HMACVerifier,
    secret: str,
    body: bytes,
    headers: dict[str, str],
    now: str,
    url: str,
) -> Signed:
    signature = verifier.prefix + verifier.sign(secret, body, timestamp=now, url=url)
    made = {}
    if verifier.timestamp_header is not None:
        made[verifier.timestamp_header] = now
    fields = [(verifier.timestamp_field, now), (verifier.signature_field, signature)]
    made[verifier.header] = verifier.separator.join(
        value if name is None else f"{name}={value}"
        for name, value in fields
        if name is not None or value is signature
    )
    return body, {**made, **headers}


def _standard(
    verifier: StandardWebhooksVerifier,
    family: str,
    secret: str,
    body: bytes,
    headers: dict[str, str],
    now: str,
) -> Signed:
    [message_id] = [
        value for name, value in headers.items() if name.lower() == f"{family}-id"
    ] or [str(uuid.uuid4())]
    signature = verifier.sign(secret, body, message_id=message_id, timestamp=now)
    made = {
        f"{family}-id": message_id,
        f"{family}-timestamp": now,
        f"{family}-signature": signature,
    }
    return body, {**made, **headers}


def _twilio(secret: str, body: bytes, url: str) -> str:
    query = dict(parse_qsl(urlsplit(url).query))
    if "bodySHA256" in query:
        parameters = ""
    else:
        pairs = set(parse_qsl(body.decode(), keep_blank_values=True))
        parameters = "".join(name + value for name, value in sorted(pairs))
    message = (url + parameters).encode()
    return encoded(
        hmac.digest(text_key(secret), message, hashlib.sha1), "base64"
    ).decode()


def _adyen(secret: str, body: bytes) -> bytes:
    content = json.loads(body)
    for each in content["notificationItems"]:
        item = each["NotificationRequestItem"]
        message = _message(item)
        if message is None:
            raise ImproperlyConfigured(
                "Adyen signs no such item: its amount is a whole number, and no field "
                "but the merchant's reference contains a colon."
            )
        digest = hmac.digest(hex_key(secret), message, "sha256")
        item.setdefault("additionalData", {})["hmacSignature"] = encoded(
            digest, "base64"
        ).decode()
    return json.dumps(content).encode()
