"""The declarative scheme, which covers most providers with a few fields."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks.deliveries import (
    Delivery,
    Rejected,
    Verified,
    is_in_body,
)

from .matching import (
    encoded,
    hex_key,
    is_among,
    is_recent,
    match,
    require_positive,
    text_key,
    total,
)

__all__ = ["HMACVerifier"]

_PLACEHOLDER = re.compile(r"\{(timestamp|body|url)\}")


@dataclass(frozen=True, kw_only=True)
class HMACVerifier:
    """An HMAC over the body, and perhaps over more, in a header.

    Raises:
        ImproperlyConfigured: where it is written, if it would leave the body unsigned,
            judge a timestamp that isn't signed, or never find what is signed.
    """

    header: str
    signed: str = "{body}"
    """What is signed; ``{body}``, ``{timestamp}`` and ``{url}`` are filled in."""
    algorithm: Literal["sha256", "sha1"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    """What stands before each signature, such as ``sha256=``."""
    separator: str = ","
    """What stands between several signatures, or between the fields of the header."""
    timestamp_field: str | None = None
    """If the header is a list of fields, the one with the timestamp."""
    signature_field: str | None = None
    """If the header is a list of fields, the ones with the signatures."""
    timestamp_header: str | None = None
    tolerance: timedelta | None = None
    """How old, or how far in the future, a signed timestamp may be; it needs one."""
    key_encoding: Literal["text", "hex"] = "text"

    def __post_init__(self) -> None:
        require_positive(self.tolerance)
        if "{body}" not in self.signed:
            raise ImproperlyConfigured(
                f'signed="{self.signed}" leaves the body unsigned: anyone who has '
                "seen a delivery could send another body with its signature. Add {body}."
            )
        if re.search(r"\{\w*\}", _PLACEHOLDER.sub("", self.signed)):
            raise ImproperlyConfigured(
                f'signed="{self.signed}" has a placeholder other than {{body}}, '
                "{timestamp} and {url}."
            )
        self._require_one_source_of_the_timestamp()

    def _require_one_source_of_the_timestamp(self) -> None:
        is_signed = "{timestamp}" in self.signed
        names = [name for name in (self.timestamp_field, self.timestamp_header) if name]
        if is_signed != (len(names) == 1) or (not is_signed and self.tolerance):
            raise ImproperlyConfigured(
                "A timestamp must be signed and come from one place. Put {timestamp} "
                "into signed, and set either timestamp_field or timestamp_header. "
                "Without a signed timestamp, leave out both of them and tolerance."
            )
        if is_signed and self.tolerance is None:
            raise ImproperlyConfigured(
                f'signed="{self.signed}" has a timestamp, but nothing says how old it may '
                "be: a delivery that somebody has seen could be sent again years later. "
                "Add tolerance=timedelta(minutes=5)."
            )
        if self.timestamp_field and not self.signature_field:
            raise ImproperlyConfigured(
                "If the timestamp is a field of the header, the signature is one, too: "
                "set signature_field."
            )

    @property
    def signs_url(self) -> bool:
        return "{url}" in self.signed

    def signs(self, place: str) -> bool:
        """Whether it is in the body, or in the header with the timestamp."""
        own = f"header:{self.timestamp_header}".lower()
        return is_in_body(place) or place.lower() == own

    @total
    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        value = delivery.headers.get(self.header)
        if not value:
            return Rejected("no signature")
        timestamp, signatures = self._parsed(value, delivery)
        if self.tolerance is not None and not is_recent(
            timestamp, delivery.received_at, self.tolerance
        ):
            return Rejected("timestamp")
        message = self._message(delivery, timestamp or "")
        return match(
            secrets,
            lambda secret: is_among(self._signature(secret, message), signatures),
        )

    def sign(
        self, secret: str, body: bytes, *, timestamp: str = "", url: str = ""
    ) -> str:
        """Return a signature as a sender makes it, without prefix; for tests."""
        delivery = Delivery(body=body, headers={}, url=url, received_at=0)
        return self._signature(secret, self._message(delivery, timestamp)).decode()

    def _parsed(self, value: str, delivery: Delivery) -> tuple[str | None, list[str]]:
        parts = [part.strip() for part in value.split(self.separator)]
        fields = [part.partition("=")[::2] for part in parts]
        timestamps = [text for name, text in fields if name == self.timestamp_field]
        if self.timestamp_header is not None:
            timestamps = [delivery.headers.get(self.timestamp_header, "")]
        if self.signature_field is not None:
            parts = [text for name, text in fields if name == self.signature_field]
        prefix = self.prefix
        signatures = [part[len(prefix) :] for part in parts if part.startswith(prefix)]
        # With two timestamps, the one that is checked might not be the signed one.
        return timestamps[0] if len(timestamps) == 1 else None, signatures

    def _message(self, delivery: Delivery, timestamp: str) -> bytes:
        parts = {
            "timestamp": timestamp.encode(),
            "body": delivery.body,
            "url": delivery.url.encode(),
        }
        pieces = _PLACEHOLDER.split(self.signed)
        return b"".join(
            parts[piece] if number % 2 else piece.encode()
            for number, piece in enumerate(pieces)
        )

    def _signature(self, secret: str, message: bytes) -> bytes:
        key = hex_key(secret) if self.key_encoding == "hex" else text_key(secret)
        return encoded(hmac.digest(key, message, self.algorithm), self.encoding)
