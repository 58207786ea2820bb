"""Answers, results and payloads encrypted at rest; needs the extra ``crypto``."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, MultiFernet
from django.core.exceptions import ImproperlyConfigured

from django_idempotency.conf import conf
from django_idempotency.core.at_rest import MAKE_KEYS

__all__ = ["FernetCodec"]


class FernetCodec:
    """Encrypts with the first of `IDEMPOTENCY_BODY_KEYS`, and decrypts with any of them.

    A value is bound to its row and to the part of it, so that it can't be read in the
    place of another one.
    """

    def __init__(self, keys: Sequence[str | bytes] | None = None) -> None:
        """
        Raises:
            ImproperlyConfigured: there is no key, or one is malformed.
        """
        given: object = conf.IDEMPOTENCY_BODY_KEYS if keys is None else keys
        if not isinstance(given, list | tuple) or not given:
            raise ImproperlyConfigured(
                "IDEMPOTENCY_BODY_KEYS must be a list of at least one key. Write\n\n"
                f"{MAKE_KEYS}"
            )
        fernets = []
        for number, key in enumerate(given, start=1):
            try:
                fernets.append(Fernet(key))
            except (AttributeError, TypeError, ValueError) as error:
                # Not the key itself: this may be logged.
                raise ImproperlyConfigured(
                    f"IDEMPOTENCY_BODY_KEYS must be keys of Fernet, which are 32 bytes "
                    f"in base64; number {number} isn't. Write\n\n{MAKE_KEYS}"
                ) from error
        self._fernet = MultiFernet(fernets)

    def encode(self, data: bytes, context: str) -> bytes:
        # Without its base64 the token is a quarter shorter.
        token = self._fernet.encrypt(_digest(context) + data)
        return base64.urlsafe_b64decode(token)

    def decode(self, data: bytes, context: str) -> bytes:
        """
        Raises:
            InvalidToken: none of the keys fits, or somebody has changed it.
            ValueError: it belongs to another row.
        """
        bound = self._fernet.decrypt(base64.urlsafe_b64encode(data))
        place, plain = bound[:SIZE], bound[SIZE:]
        if not hmac.compare_digest(place, _digest(context)):
            raise ValueError("This is another row's value.")
        return plain


SIZE = hashlib.sha256().digest_size


def _digest(context: str) -> bytes:
    return hashlib.sha256(context.encode("utf-8", "surrogatepass")).digest()
