"""One delivery and the verdict on its signature, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Delivery", "Rejected", "Verified", "Verifier"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What a provider sent, before it is verified."""

    body: bytes
    headers: Mapping[str, str]
    """Case-insensitive; a header sent twice is joined by a comma."""
    url: str
    """The public URL, as the provider has it."""
    received_at: float
    """Seconds since the epoch."""


def is_in_body(place: str) -> bool:
    """Whether it names a part of the body, which every scheme signs, or a header."""
    return not place.startswith("header:")


@dataclass(frozen=True, slots=True)
class Verified:
    """The signature is right."""

    secret_index: int
    """Which of the secrets made it: 0 is the first that was given."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The signature is wrong; the reason is for the log, not for the sender."""

    reason: str


class Verifier(Protocol):
    """A signature scheme. Whatever goes wrong inside means "not verified".

    It may have another method, ``signs(place: str) -> bool``: whether the signature
    covers what is at this place, ``data.id`` or ``header:Name``. Without it, that is the
    body and no header.
    """

    def verify(
        self, delivery: Delivery, secrets: tuple[str, ...]
    ) -> Verified | Rejected:
        """Say whether one of the secrets, newest first, has signed the delivery.

        It never raises, makes no network calls, and compares in constant time.
        """
        ...
