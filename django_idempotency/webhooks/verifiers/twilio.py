"""Twilio's signatures over the public URL and the parameters."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from django_idempotency.webhooks.deliveries import Delivery, Rejected, Verified

from .matching import encoded, is_among, match, text_key, total

__all__ = ["TwilioVerifier"]


@dataclass(frozen=True, kw_only=True)
class TwilioVerifier:
    """Twilio: the public URL and the sorted parameters, or the body's digest.

    Twilio signs names and values without a separator: someone who has seen a delivery
    could move the boundary between two parameters.
    """

    header: str = "X-Twilio-Signature"
    signs_url: ClassVar[bool] = True

    @total
    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        given = delivery.headers.get(self.header)
        if not given:
            return Rejected("no signature")
        parameters = _parameters(delivery)
        if parameters is None:
            return Rejected("body digest")
        messages = [
            (url + parameters).encode() for url in _with_and_without_port(delivery.url)
        ]

        def is_signed_by(secret: str) -> bool:
            key = text_key(secret)
            digests = [hmac.digest(key, message, "sha1") for message in messages]
            return any(is_among(encoded(each, "base64"), [given]) for each in digests)

        return match(secrets, is_signed_by)


def _parameters(delivery: Delivery) -> str | None:
    """Return what is signed besides the URL; ``None``: the body was changed."""
    digests = [
        value
        for name, value in parse_qsl(urlsplit(delivery.url).query)
        if name == "bodySHA256"
    ]
    if digests:
        expected = hashlib.sha256(delivery.body).hexdigest().encode()
        return "" if is_among(expected, digests[:1]) else None
    pairs = set(parse_qsl(delivery.body.decode(), keep_blank_values=True))
    return "".join(name + value for name, value in sorted(pairs))


def _with_and_without_port(url: str) -> Iterator[str]:
    """Twilio signs the URL with the port or without, depending on the product."""
    parts = urlsplit(url)
    if parts.port is None:
        yield urlunsplit(parts)
        port = 443 if parts.scheme == "https" else 80
        yield _with_netloc(parts, f"{parts.netloc}:{port}")
    else:
        yield urlunsplit(parts)
        yield _with_netloc(parts, parts.netloc.rpartition(":")[0])


def _with_netloc(parts: SplitResult, netloc: str) -> str:
    return urlunsplit(parts._replace(netloc=netloc))
