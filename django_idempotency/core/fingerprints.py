"""The fingerprint of a payload: compared with a stored one, never looked up."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.utils.crypto import constant_time_compare
from django.utils.encoding import force_bytes

from .canonical_json import pieces_of

VERSION = "1"
"""To be raised when equal payloads get another fingerprint; see `Fingerprint`."""

Pairs = Iterable[tuple[str, str]]
Pieces = list[bytes]
"""A payload in its one spelling: a long one is never joined."""

JOINED = 64 * 1024
"""Bytes below which one copy is cheaper than to digest piece by piece."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The digest of a query and payload, in memory; it is stored only as `sign()`ed.

    With the digest alone, somebody who can read the table could guess short secrets (a
    PIN). The stored form is keyed with SECRET_KEY, which is not in the database.
    """

    digest: bytes

    def sign(self) -> str:
        """Return the form to store: version tag and keyed digest."""
        return self._signed_with(settings.SECRET_KEY)

    def matches(self, stored: str) -> bool:
        """Whether `stored` was signed from an equal payload.

        Keys in SECRET_KEY_FALLBACKS are tried before it counts as a mismatch. A
        fingerprint of another version matches anything: the record is from a newer or
        older release, and refusing a legitimate retry would be the worse mistake.
        """
        if not stored.startswith(f"{VERSION}:"):
            return True
        secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
        return any(
            constant_time_compare(self._signed_with(secret), stored)
            for secret in secrets
        )

    def _signed_with(self, secret: str | bytes) -> str:
        mac = hmac.digest(_signing_key(secret), self.digest, "sha256")
        return f"{VERSION}:{mac.hex()}"


@lru_cache(maxsize=8)
def _signing_key(secret: str | bytes) -> bytes:
    """Return the key that Django's `salted_hmac` would derive for each value."""
    return hashlib.sha256(
        b"django_idempotency.fingerprint" + force_bytes(secret)
    ).digest()


class _NoPayload(Fingerprint):
    """For work that is identified by its key alone; its stored form matches anything."""

    def sign(self) -> str:
        return "none"


NO_PAYLOAD = _NoPayload(b"")


class _UnknownPayload(Fingerprint):
    """For a question about an operation, which comes without its payload."""

    def matches(self, stored: str) -> bool:
        return True


UNKNOWN_PAYLOAD = _UnknownPayload(b"")


def fingerprint_of(*parts: bytes | Pieces) -> Fingerprint:
    """Return the fingerprint of these parts, in this order."""
    return Fingerprint(digest_of(parts))


def digest_of(parts: Iterable[bytes | Pieces]) -> bytes:
    """Digest parts, each preceded by its length, to keep their boundaries."""
    framed: list[bytes] = []
    size = 0
    for part in parts:
        if isinstance(part, bytes):
            length = len(part)
            framed += (length.to_bytes(8, "big"), part)
        else:
            length = sum(map(len, part))
            framed += (length.to_bytes(8, "big"), *part)
        size += length
    if size < JOINED:
        return hashlib.sha256(b"".join(framed)).digest()
    digest = hashlib.sha256()
    for each in framed:
        digest.update(each)
    return digest.digest()


def canonical_query(query: bytes) -> Pieces:
    """Sort a query by name; values of one name keep their order."""
    return canonical_form(query) if query else NO_PAIRS


def canonical_form(
    body: bytes, exclude: Collection[str] = (), max_fields: int | None = None
) -> Pieces:
    """Sort the fields of an urlencoded form; with too many, return the raw body.

    So too where it isn't UTF-8: Django then reads all of it as Latin-1, escapes excepted,
    so that a byte and its escape are no longer the same.
    """
    try:
        pairs = parse_qsl(
            body.decode(),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=max_fields,
        )
    except ValueError:
        return canonical_bytes(body)
    return canonical_pairs(pairs, exclude)


def canonical_pairs(pairs: Pairs, exclude: Collection[str] = ()) -> Pieces:
    """Sort pairs by name; values of one name keep their order."""
    kept = [pair for pair in pairs if pair[0] not in exclude]
    return [b"pairs:" + _dumps(sorted(kept, key=lambda pair: pair[0]))]


NO_PAIRS = [b"pairs:[]"]


def canonical_json(body: bytes, exclude: Collection[str] = ()) -> Pieces:
    """Return pieces that are equal as a whole for equal JSON documents, else the body.

    Members are sorted, white space and escapes disappear, lists keep their order and
    numbers are compared by exact decimal value: 1, 1.0 and 10e-1 are one number, and
    no float rounding makes two amounts equal. What parsers disagree about (duplicate
    members, NaN, a byte order mark, great depth, huge exponents) is left as bytes: such
    a body matches only its own copy. `exclude` names members of the top level.
    """
    try:
        return [b"json:", *pieces_of(body, exclude)]
    except (ValueError, RecursionError):
        return canonical_bytes(body)


def canonical_bytes(body: bytes) -> Pieces:
    """Return pieces that equal only those of the very same body."""
    return [b"raw:", body]


def _dumps(document: Any) -> bytes:
    return _ENCODER.encode(document).encode("ascii")


_ENCODER = json.JSONEncoder(separators=(",", ":"))
