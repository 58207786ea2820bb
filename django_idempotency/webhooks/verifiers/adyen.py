"""Adyen's signatures within the body."""

from __future__ import annotations

import hmac
import json
from dataclasses import dataclass
from typing import Any

from django_idempotency.webhooks.deliveries import Delivery, Rejected, Verified

from .matching import encoded, hex_key, is_among, match, total

__all__ = ["AdyenVerifier"]


SIGNED = frozenset(
    {
        "pspReference",
        "originalReference",
        "merchantAccountCode",
        "merchantReference",
        "amount.value",
        "amount.currency",
        "eventCode",
        "success",
    }
)


@dataclass(frozen=True, kw_only=True)
class AdyenVerifier:
    """Adyen's standard notifications: a signature in each item of the batch.

    Every item must be signed; the official library checks only the first one. The
    signature covers eight fields, not the rest of the item.
    """

    def signs(self, place: str) -> bool:
        """Whether it is one of the eight fields of an item."""
        return place in SIGNED

    @total
    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        items = json.loads(delivery.body.decode())["notificationItems"]
        matches = [
            self._verify_item(item["NotificationRequestItem"], secrets)
            for item in items
        ]
        if not matches:
            return Rejected("no items")
        for verdict in matches:
            if isinstance(verdict, Rejected):
                return verdict
        return matches[0]

    def _verify_item(
        self, item: dict[str, Any], secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        message = _message(item)
        if message is None:
            return Rejected("fields")
        given = item["additionalData"]["hmacSignature"]
        return match(
            secrets,
            lambda secret: is_among(
                encoded(hmac.digest(hex_key(secret), message, "sha256"), "base64"),
                [given],
            ),
        )


def _message(item: dict[str, Any]) -> bytes | None:
    """Return what is signed; ``None`` if another item could have the same bytes.

    The fields are joined by colons without escaping, so "A:B" and "C" look like "A" and
    "B:C". Only the merchant's own reference may contain a colon: then there is still
    just one way to read them.
    """
    value = item["amount"]["value"]
    before = [
        item.get("pspReference", ""),
        item.get("originalReference", ""),
        item.get("merchantAccountCode", ""),
    ]
    reference = item.get("merchantReference", "")
    after = [
        item["amount"]["currency"],
        item.get("eventCode", ""),
        item.get("success", ""),
    ]
    # A number and its text have the same signature, but a handler may tell them apart.
    if type(value) is not int or not isinstance(reference, str):
        return None
    if not all(isinstance(text, str) and ":" not in text for text in before + after):
        return None
    return ":".join([*before, reference, str(value), *after]).encode()
