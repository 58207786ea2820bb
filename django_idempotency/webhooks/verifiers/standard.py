"""Standard Webhooks, and Svix, on which it is based."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from django_idempotency.webhooks.deliveries import (
    Delivery,
    Rejected,
    Verified,
    is_in_body,
)

from .matching import (
    UnusableSecret,
    base64_key,
    encoded,
    is_among,
    is_recent,
    match,
    require_positive,
    total,
)

__all__ = ["StandardWebhooksVerifier"]

SECRET = "whsec_"  # noqa: S105 - the prefix of all of them
PUBLIC_KEY = "whpk_"


@dataclass(frozen=True, kw_only=True)
class StandardWebhooksVerifier:
    """Standard Webhooks and Svix: ``v1`` (HMAC), and ``v1a`` (ed25519).

    A secret is ``whsec_`` and base64; for ``v1a`` it is the sender's public key,
    ``whpk_`` and base64, and the package ``cryptography`` is needed. Source: the
    Standard Webhooks specification, "Signature scheme".

    Raises:
        ImproperlyConfigured: where it is written, for a tolerance of zero or less.
    """

    tolerance: timedelta = timedelta(minutes=5)
    family: Literal["webhook", "svix"] = "webhook"
    """Whose headers are read, and no others: otherwise the signed id might not be the
    id that the profile reads."""

    def __post_init__(self) -> None:
        require_positive(self.tolerance)

    def signs(self, place: str) -> bool:
        """Whether it is in the body, or in the header with the id or the timestamp."""
        return is_in_body(place) or place.lower() in (
            f"header:{self.family}-id",
            f"header:{self.family}-timestamp",
        )

    @total
    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        message_id = delivery.headers.get(f"{self.family}-id")
        timestamp = delivery.headers.get(f"{self.family}-timestamp")
        value = delivery.headers.get(f"{self.family}-signature")
        if not (message_id and timestamp and value):
            return Rejected("no signature")
        if not is_recent(timestamp, delivery.received_at, self.tolerance):
            return Rejected("timestamp")
        message = _message(message_id, timestamp, delivery.body)
        entries = [entry.partition(",")[::2] for entry in value.split(" ")]

        def signatures(version: str) -> list[str]:
            return [text for name, text in entries if name == version]

        def is_signed_by(secret: str) -> bool:
            if secret.startswith(
                PUBLIC_KEY
            ):  # public, so it must never be the key of an HMAC
                return _is_signed_by_owner(secret, message, signatures("v1a"))
            return is_among(_hmac(secret, message), signatures("v1"))

        return match(secrets, is_signed_by)

    def sign(self, secret: str, body: bytes, *, message_id: str, timestamp: str) -> str:
        """Return the entry of the signature header as a sender makes it; for tests."""
        return f"v1,{_hmac(secret, _message(message_id, timestamp, body)).decode()}"


def _message(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


def _hmac(secret: str, message: bytes) -> bytes:
    key = base64_key(secret, SECRET)
    return encoded(hmac.digest(key, message, "sha256"), "base64")


def _is_signed_by_owner(
    public_key: str, message: bytes, signatures: Iterable[str]
) -> bool:
    key = base64_key(public_key, PUBLIC_KEY)
    return any(_is_ed25519(key, message, signature) for signature in signatures)


def _is_ed25519(public_key: bytes, message: bytes, signature: str) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise UnusableSecret(
            "needs the package cryptography: pip install django-idempotency[crypto]"
        ) from None
    try:
        key = Ed25519PublicKey.from_public_bytes(public_key)
    except ValueError:
        raise UnusableSecret("isn't an ed25519 key") from None
    try:
        key.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, binascii.Error):
        return False
    return True
