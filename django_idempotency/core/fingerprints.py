"""The fingerprint of a payload: compared with a stored one, never looked up."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.utils.crypto import constant_time_compare
from django.utils.encoding import force_bytes

VERSION = "1"
"""To be raised when equal payloads get another fingerprint; see `Fingerprint`."""

MAX_DEPTH = 64
MAX_EXPONENT_DIGITS = 18

Pairs = Iterable[tuple[str, str]]


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


def fingerprint_of(*parts: bytes) -> Fingerprint:
    """Return the fingerprint of these parts, in this order."""
    return Fingerprint(digest_of(parts))


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Digest parts, each preceded by its length, to keep their boundaries."""
    framed = [each for part in parts for each in (len(part).to_bytes(8, "big"), part)]
    return hashlib.sha256(b"".join(framed)).digest()


def canonical_query(query: bytes) -> bytes:
    """Sort a query by name; values of one name keep their order."""
    return canonical_form(query) if query else NO_PAIRS


def canonical_form(
    body: bytes, exclude: Collection[str] = (), max_fields: int | None = None
) -> bytes:
    """Sort the fields of an urlencoded form; with too many, return the raw body."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8", "surrogateescape"),
            keep_blank_values=True,
            errors="surrogateescape",
            max_num_fields=max_fields,
        )
    except ValueError:
        return canonical_bytes(body)
    return canonical_pairs(pairs, exclude)


def canonical_pairs(pairs: Pairs, exclude: Collection[str] = ()) -> bytes:
    """Sort pairs by name; values of one name keep their order."""
    kept = [pair for pair in pairs if pair[0] not in exclude]
    return b"pairs:" + _dumps(sorted(kept, key=lambda pair: pair[0]))


NO_PAIRS = b"pairs:[]"


def canonical_json(body: bytes, exclude: Collection[str] = ()) -> bytes:
    """Return bytes that are equal for equal JSON documents, else `canonical_bytes`.

    Members are sorted, white space and escapes disappear, lists keep their order and
    numbers are compared by exact decimal value: 1, 1.0 and 10e-1 are one number, and
    no float rounding makes two amounts equal. What parsers disagree about (duplicate
    members, NaN, a byte order mark, great depth, huge exponents) is left as bytes: such
    a body matches only its own copy. `exclude` names members of the top level.
    """
    try:
        text = body.decode("utf-8")
        if _is_deep(text):
            return canonical_bytes(body)
        document = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return canonical_bytes(body)
    if exclude and isinstance(document, dict) and _OBJECT in document:
        members = [pair for pair in document[_OBJECT] if pair[0] not in exclude]
        document = {_OBJECT: members}
    return b"json:" + _dumps(document)


def canonical_bytes(body: bytes) -> bytes:
    """Return bytes that equal only those of the very same body."""
    return b"raw:" + body


# Note [Canonical JSON without a serialiser of our own]
# The decoder's hooks replace every object with {"{": [[name, value], …]}, sorted, and
# every number with {"#": "digits e exponent"}. Nothing else can become a dict, so the
# replacement is unambiguous, and the standard library's C encoder writes the result.
_OBJECT = "{"
_NUMBER = "#"


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = {name for name, _ in pairs}
    if len(names) < len(pairs):
        raise ValueError("duplicate members")
    return {_OBJECT: sorted(pairs, key=lambda pair: pair[0])}


def _number(literal: str) -> dict[str, str]:
    mantissa, _, exponent_text = literal.lower().partition("e")
    if len(exponent_text) > MAX_EXPONENT_DIGITS:
        raise ValueError("huge exponent")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return {_NUMBER: "0"}
    exponent = int(exponent_text or 0) - len(fraction)
    exponent += len(digits) - len(significant)
    return {_NUMBER: f"{sign}{significant}e{exponent}"}


def _refuse_constant(literal: str) -> Any:
    raise ValueError(f"{literal} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_members,
    parse_int=_number,
    parse_float=_number,
    parse_constant=_refuse_constant,
)
_ENCODER = json.JSONEncoder(separators=(",", ":"))


# A string that is never closed matches up to the end. Without that alternative the
# search would start again at each of its escaped quotes, in quadratic time.
_STRINGS_AND_BRACKETS = re.compile(
    r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]', re.DOTALL
)


def _is_deep(text: str) -> bool:
    """Whether the nesting goes beyond MAX_DEPTH.

    Decided here and not by RecursionError, which depends on how deep the *caller* is:
    the fingerprint must be the same in every process.
    """
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return False
    depth = deepest = 0
    for match in _STRINGS_AND_BRACKETS.finditer(text):
        if match[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in "]}":
            depth -= 1
    return deepest > MAX_DEPTH


def _dumps(document: Any) -> bytes:
    return _ENCODER.encode(document).encode("ascii")
