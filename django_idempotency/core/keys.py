"""The client's key: reading it, which ones guests may use, keys derived from it."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import uuid

from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_idempotency.exceptions import InvalidKey

from .fingerprints import digest_of

MAX_LENGTH = 255
_TOO_LONG = gettext_lazy("The key is longer than %(count)s characters.")

_VISIBLE_ASCII = re.compile(r"[\x21-\x7e]+")
# An sf-string (RFC 8941 and RFC 9651, 3.3.3): only the quote and the backslash may be
# escaped, and only by a backslash.
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')

PATTERN = r'^([!#-+\--\[\]-~]{1,255}|"([!#-\[\]-~]|\\["\\]){1,255}")$'
"""What `parse_key` takes, for programs that know no more than regular expressions."""

# What a browser makes by itself: a quoted 64-bit number, new for each submission.
# Firefox sends it with every POST where network.http.idempotencyKey.enabled is set.
_BROWSERS_OWN = re.compile(r'[ \t]*"[0-9]{1,20}"[ \t]*')

_UUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-([0-9a-f])[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", re.I
)
_RANDOM_UUID_VERSIONS = ("4", "7")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.I)
_RANDOM_TOKEN = re.compile(r"[A-Za-z0-9_-]{21,}")

# What a page carries: a random or derived part, and whose it is. No other key has this
# shape by accident, so one that has lost its owner isn't taken for somebody's own.
_PAGE_KEY = re.compile(r"page-([A-Za-z0-9_-]{22})-([A-Za-z0-9_-]{22})")


def parse_key(raw: str) -> str:
    """Return the key in a header or form field; ``abc`` and ``"abc"`` are one key.

    The draft asks for a quoted string, but most clients send the bare text
    (draft-ietf-httpapi-idempotency-key-header, 2.1; RFC 9651, 3.3.3).

    Raises:
        InvalidKey: if it is empty, too long, not visible ASCII or badly quoted, or if
            it has no quotes and contains a comma, as a header that was sent twice.
    """
    # First of all, so that nothing below scans a key of any length.
    if len(raw) > 4 * MAX_LENGTH:
        raise InvalidKey(_TOO_LONG % {"count": MAX_LENGTH})
    text = raw.strip(" \t")
    key = _unquoted(text) if text.startswith('"') else _bare(text)
    if not key.strip():
        raise InvalidKey(_("The key is empty."))
    if len(key) > MAX_LENGTH:
        raise InvalidKey(_TOO_LONG % {"count": MAX_LENGTH})
    if not _VISIBLE_ASCII.fullmatch(key):
        raise InvalidKey(_("The key contains characters other than visible ASCII."))
    return key


def is_browsers_own(raw: str) -> bool:
    """Whether nobody has chosen this key: the browser numbers its submissions."""
    return _BROWSERS_OWN.fullmatch(raw) is not None


def _unquoted(text: str) -> str:
    match = _QUOTED.fullmatch(text)
    if match is None:
        raise InvalidKey(_("The key is a quoted string with broken quoting."))
    return re.sub(r"\\(.)", r"\1", match[1])


def _bare(text: str) -> str:
    if any(character in text for character in ',"\\'):
        raise InvalidKey(
            _(
                "A key without quotes can't contain a comma, a double quote or a "
                "backslash; was the header sent twice?"
            )
        )
    return text


def require_unguessable(key: str) -> None:
    """Refuse a key that another guest could send by accident or guess.

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
        _(
            "Without signing in, the key must be unguessable: a random UUID (version 4 "
            "or 7), a ULID, or at least 21 random characters of A-Z, a-z, 0-9, '_' and "
            "'-'."
        )
    )


def derive_key(record_id: uuid.UUID, label: str) -> str:
    """Return the key to pass to another party in one step of an operation.

    A UUID as text. It depends only on the record's id and the label, so that every
    attempt sends the same one, in any process, release and after a rotation of
    SECRET_KEY. It deliberately doesn't depend on the payload: if the payload changed
    under one key and our record is gone, the *other* side can still refuse it.
    """
    digest = hashlib.sha256(record_id.bytes + label.encode("utf-8", "surrogatepass"))
    return str(uuid8(digest.digest()))


def fresh_key() -> str:
    """Return a random key."""
    return str(uuid.uuid4())


def fresh_page_key(owner: str) -> str:
    """Return a random key that belongs to `owner`, 50 characters."""
    return _owned(_text(secrets.token_bytes(16)), owner)


def derived_page_key(owner: str, *parts: str) -> str:
    """Return the key of a form that is rendered more than once, 50 characters.

    Keyed with SECRET_KEY, so that knowing a customer's cart isn't enough to make it.
    """
    joined = "".join(f"{len(part)}:{part}" for part in parts)
    mac = salted_hmac("django_idempotency.form", joined, algorithm="sha256")
    return _owned(_text(mac.digest()), owner)


def is_page_key(key: str) -> bool:
    """Whether it is one that was made for a page, and so has an owner."""
    return _PAGE_KEY.fullmatch(key) is not None


def is_owned_by(page_key: str, owner: str) -> bool:
    """Whether the page was made for `owner`."""
    text = page_key.removeprefix("page-")[:22]
    return constant_time_compare(page_key, _owned(text, owner))


def _owned(text: str, owner: str) -> str:
    # Not keyed with SECRET_KEY: a page outlives its rotation. Whoever knows the owner can
    # make keys for it, which is no more than to make a key of one's own.
    mac = salted_hmac("django_idempotency.owner", text, owner, algorithm="sha256")
    return f"page-{text}-{_text(mac.digest())}"


def _text(digest: bytes) -> str:
    """Return the first 16 bytes as 22 characters."""
    return base64.urlsafe_b64encode(digest[:16]).rstrip(b"=").decode()


def uuid8(digest: bytes) -> uuid.UUID:
    """Return the first 16 bytes of a digest as a UUID of version 8 (RFC 9562, 5.8).

    Its ninth byte is never 80, but 81 instead: MariaDB's own UUID type refuses that one,
    and a project may keep ids and derived keys in a `UUIDField`.
    """
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | 0x8 << 76
    number = number & ~(0b11 << 62) | 0b10 << 62
    if number >> 56 & 0xFF == 0x80:
        number |= 1 << 56
    return uuid.UUID(int=number)


def digest_id(*parts: str) -> uuid.UUID:
    """Return the primary key of the row that exactly these strings identify."""
    return uuid8(digest_of(part.encode("utf-8", "surrogatepass") for part in parts))
