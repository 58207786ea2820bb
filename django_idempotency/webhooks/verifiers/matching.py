"""What the signature schemes have in common."""

from __future__ import annotations

import base64
import functools
import hmac
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.webhooks.deliveries import Rejected, Verified

__all__ = ["UnusableSecret", "match", "total"]

_SECONDS = re.compile(r"[1-9][0-9]{0,11}")
_MILLISECONDS = re.compile(r"[1-9][0-9]{12}")
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?"
    r"(Z|[+-][0-9]{2}:?[0-9]{2})?"
)

Method = Callable[..., Verified | Rejected]


class UnusableSecret(Exception):
    """A secret that can't be used; the message says why and never quotes it."""


def total(verify: Method) -> Method:
    """Turn every exception into a rejection, so that strangers can't cause errors."""

    @functools.wraps(verify)
    def wrapper(*args: Any, **kwargs: Any) -> Verified | Rejected:
        try:
            return verify(*args, **kwargs)
        except Exception as error:
            return Rejected(f"malformed ({type(error).__name__})")

    return wrapper


def match(
    secrets: tuple[str, ...], is_signed_by: Callable[[str], bool]
) -> Verified | Rejected:
    """Try the secrets in turn, skipping those that can't be used."""
    problems = ["signature"]
    for index, secret in enumerate(secrets):
        try:
            if is_signed_by(secret):
                return Verified(index)
        except UnusableSecret as problem:
            problems.append(f"secret {index} {problem}")
    return Rejected("; ".join(problems))


def is_among(expected: bytes, given: Iterable[str]) -> bool:
    """Compare with every signature that was sent, each in constant time."""
    return any(hmac.compare_digest(expected, text.encode()) for text in given)


def is_recent(timestamp: str | None, received_at: float, tolerance: timedelta) -> bool:
    """Whether it can be read in one way only, and is close enough to `received_at`."""
    seconds = _seconds_of(timestamp or "")
    if seconds is None:
        return False
    return abs(received_at - seconds) <= tolerance.total_seconds()


def _seconds_of(timestamp: str) -> float | None:
    """Read seconds or milliseconds since the epoch, or ISO 8601; UTC without a zone."""
    if _SECONDS.fullmatch(timestamp):
        return int(timestamp)
    if _MILLISECONDS.fullmatch(timestamp):
        return int(timestamp) / 1000
    if not _ISO_8601.fullmatch(timestamp):
        return None
    try:
        instant = datetime.fromisoformat(timestamp)
    except ValueError:
        return None  # no such day, or no such zone
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def require_positive(tolerance: timedelta | None) -> None:
    """Refuse a tolerance of zero or less, which libraries take for no limit."""
    if tolerance is not None and tolerance <= timedelta(0):
        raise ImproperlyConfigured(
            f"tolerance={tolerance!r} must be positive; write "
            "tolerance=timedelta(minutes=5)."
        )


def text_key(secret: str) -> bytes:
    """Return the secret itself as the key."""
    return _not_blank(secret.encode() if secret.strip() else b"")


def hex_key(secret: str) -> bytes:
    try:
        return _not_blank(bytes.fromhex(secret))
    except ValueError:
        raise UnusableSecret("isn't hexadecimal") from None


def base64_key(secret: str, prefix: str) -> bytes:
    """Decode strictly: a lenient decoder would skip unknown characters."""
    text = secret.removeprefix(prefix)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise UnusableSecret(f"isn't {prefix} followed by base64") from None
    return _not_blank(key)


def _not_blank(key: bytes) -> bytes:
    """Refuse an empty key, with which anybody could sign."""
    if not key:
        raise UnusableSecret("is blank")
    return key


def encoded(digest: bytes, encoding: str) -> bytes:
    return digest.hex().encode() if encoding == "hex" else base64.b64encode(digest)
