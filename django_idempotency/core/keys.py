"""The client's key: how it is read, which guests may use, what is derived from it."""

from __future__ import annotations

import base64
import hashlib
import re
import uuid

from django.utils.crypto import salted_hmac

from .exceptions import InvalidKey

__all__ = ["derive_key", "parse_key", "require_unguessable"]

MAX_LENGTH = 255

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
# An sf-string (RFC 8941 and RFC 9651, 3.3.3): only the quote and the backslash may be
# escaped, and only by a backslash.
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')

_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.I
)
_RANDOM_UUID_VERSIONS = ("4", "7")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.I)
_RANDOM_TOKEN = re.compile(r"[A-Za-z0-9_-]{21,}")


def parse_key(raw: str) -> str:
    """Return the key in a header or form field; ``abc`` and ``"abc"`` are one key.

    The draft asks for a quoted string, most clients send the bare text
    (draft-ietf-httpapi-idempotency-key-header, 2.1; RFC 9651, 3.3.3).

    Raises:
        InvalidKey: if it is empty, too long, not visible ASCII or badly quoted, or if
            it is bare and holds a comma, which is how a header sent twice arrives.
    """
    # Before anything looks at every character of it.
    if len(raw) > 4 * MAX_LENGTH:
        raise InvalidKey(f"The key is longer than {MAX_LENGTH} characters.")
    text = raw.strip(" \t")
    key = _unquoted(text) if text.startswith('"') else _bare(text)
    if not key.strip():
        raise InvalidKey("The key is empty.")
    if len(key) > MAX_LENGTH:
        raise InvalidKey(f"The key is longer than {MAX_LENGTH} characters.")
    if not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidKey("The key holds characters other than visible ASCII.")
    return key


def _unquoted(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    if match is None:
        raise InvalidKey("The key is a quoted string with broken quoting.")
    return re.sub(r"\\(.)", r"\1", match[1])


def _bare(text: str) -> str:
    if any(character in text for character in ',"\\'):
        raise InvalidKey(
            "A key without quotes can't hold a comma, a double quote or a backslash; "
            "was the header sent twice?"
        )
    return text


def require_unguessable(key: str) -> None:
    """Refuse a key that another guest could send by accident or by guessing.

    All guests share one principal, so a guest's key is a bearer secret: a random UUID
    (version 4 or 7), a ULID, or at least 21 characters of ``A-Za-z0-9_-``.

    Raises:
        InvalidKey: if the key is none of these.
    """
    if match := _UUID.fullmatch(key):
        if match[1] in _RANDOM_UUID_VERSIONS:
            return
    elif _ULID.fullmatch(key) or _RANDOM_TOKEN.fullmatch(key):
        return
    raise InvalidKey(
        "Without signing in, the key must be unguessable: a random UUID (version 4 or "
        "7), a ULID, or at least 21 random characters of A-Z, a-z, 0-9, '_' and '-'."
    )


def derive_key(record_id: uuid.UUID, label: str) -> str:
    """Return the key to hand to another party for one step of an operation.

    A UUID as text: it depends on the record's id and the label and on nothing else, so
    that every attempt sends the same one, in any process, version and after a rotation
    of SECRET_KEY. The payload is left out on purpose: if it changed under one key and
    our record is gone, the *other* side must refuse it too.
    """
    digest = hashlib.sha256(record_id.bytes + label.encode("utf-8", "surrogatepass"))
    return str(uuid8(digest.digest()))


def fresh_key() -> str:
    """Return a key that nobody has used."""
    return str(uuid.uuid4())


def derive_form_key(*parts: str) -> str:
    """Return the key of a form that is rendered more than once, 43 characters.

    Keyed with SECRET_KEY: who knows a customer's cart must not know the key.
    """
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    mac = salted_hmac("django_idempotency.form", joined, algorithm="sha256")
    return base64.urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()


def uuid8(digest: bytes) -> uuid.UUID:
    """Return the first 16 bytes of a digest as a UUID of version 8 (RFC 9562, 5.8)."""
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    return uuid.UUID(int=number)
