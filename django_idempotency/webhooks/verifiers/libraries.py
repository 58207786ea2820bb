"""The vendors' own libraries, for projects that must or want to use them.

They are guarded: an exception on hostile input becomes a rejection, and what they
wrongly accept is checked. `HMACVerifier` and `StandardWebhooksVerifier` need neither.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks.deliveries import Delivery, Rejected, Verified

from .matching import (
    UnusableSecret,
    base64_key,
    is_recent,
    match,
    require_positive,
    text_key,
    total,
)
from .standard import PUBLIC_KEY, SECRET, StandardWebhooksVerifier

__all__ = ["StandardWebhooksLibraryVerifier", "StripeLibraryVerifier"]


@dataclass(frozen=True, kw_only=True)
class StripeLibraryVerifier:
    """Stripe's signatures, checked by the package ``stripe``.

    The library accepts a timestamp at any time in the future; this doesn't.

    Raises:
        ImproperlyConfigured: where it is written, if the library is missing, or for a
            tolerance of zero or less, which the library takes for any age.
    """

    tolerance: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        require_positive(self.tolerance)
        _library("stripe")

    @total
    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        header = delivery.headers.get("Stripe-Signature", "")
        fields = [field.partition("=")[::2] for field in header.split(",")]
        timestamps = [text for name, text in fields if name == "t"]
        if len(timestamps) != 1:
            return Rejected("no signature")
        if not is_recent(timestamps[0], delivery.received_at, self.tolerance):
            return Rejected("timestamp")
        stripe = _library("stripe")
        # As text: older versions sign the *representation* of bytes.
        body = delivery.body.decode()

        def is_signed_by(secret: str) -> bool:
            text_key(secret)
            try:
                stripe.WebhookSignature.verify_header(body, header, secret, None)
            except stripe.SignatureVerificationError:
                return False
            return True

        return match(secrets, is_signed_by)


@dataclass(frozen=True, kw_only=True)
class StandardWebhooksLibraryVerifier:
    """Standard Webhooks ``v1``, checked by the package ``standardwebhooks``.

    The library stops at an entry it can't read even if a good signature follows,
    takes a public key for a secret, and floors a timestamp with a fraction; this
    doesn't. Its own tolerance is five minutes, and can't be changed.

    Raises:
        ImproperlyConfigured: where it is written, if the library is missing.
    """

    def __post_init__(self) -> None:
        _library("standardwebhooks")

    def signs(self, place: str) -> bool:
        """Whether it is in the body, or in the header with the id or the timestamp."""
        return StandardWebhooksVerifier().signs(place)

    @total
    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        headers = {
            name: delivery.headers.get(name, "")
            for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
        }
        if not all(headers.values()):
            return Rejected("no signature")
        tolerance = timedelta(minutes=5)
        timestamp = headers["webhook-timestamp"]
        if not is_recent(timestamp, delivery.received_at, tolerance):
            return Rejected("timestamp")
        entries = headers["webhook-signature"].split()
        readable = [entry for entry in entries if entry.startswith("v1,")]
        library = _library("standardwebhooks")

        def is_signed_by(secret: str) -> bool:
            if secret.startswith(PUBLIC_KEY):
                raise UnusableSecret("is a public key, which the library can't use")
            base64_key(secret, SECRET)
            webhook = library.Webhook(secret)
            return any(
                _accepts(webhook, delivery.body, headers, entry) for entry in readable
            )

        return match(secrets, is_signed_by)


def _accepts(webhook: Any, body: bytes, headers: dict[str, str], entry: str) -> bool:
    try:
        webhook.verify(body, {**headers, "webhook-signature": entry})
    except Exception:
        return False
    return True


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImproperlyConfigured(
            f"The package {name!r} is missing: pip install django-idempotency[{name}]"
        ) from error
