"""How answers, results of steps and payloads are stored: as they are, or encoded.

Note [Plain and encoded at rest]
A project may switch its codec on at any time, so plain and encoded values stand side by
side, and what somebody sends must never be taken for an encoded value. So bytes that are
encoded begin with a mark, and plain ones that happen to begin with it get a mark of their
own. In the journal an encoded result is another member than a plain one. A word of the
other side is JSON, which never begins with `~`.

What can't be decoded is neither an answer nor a reason to do anything again.
"""

from __future__ import annotations

import base64
import uuid
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_idempotency.conf import conf
from django_idempotency.exceptions import Undecodable

MARK = b"\0idempotency"
ENCODED, AS_IT_IS = MARK + b"\1", MARK + b"\0"

TEXT_MARK = "~"

SAMPLE = 64 * 1024

MAKE_KEYS = (
    "import os\n\n"
    'IDEMPOTENCY_BODY_KEYS = os.environ["IDEMPOTENCY_BODY_KEYS"].split()\n'
    "# with what this prints:\n"
    '# python -c "from cryptography.fernet import Fernet; '
    'print(Fernet.generate_key().decode())"'
)


class BodyCodec(Protocol):
    """What `IDEMPOTENCY_BODY_CODEC` names; any object with these methods will do.

    `context` names the row and the part of it, and is equal whenever the same value is
    encoded and decoded: bind it, so that nobody can put one row's value into another.
    """

    def encode(self, data: bytes, context: str) -> bytes: ...

    def decode(self, data: bytes, context: str) -> bytes:
        """Return what was encoded; raise, whatever it is, if that isn't possible."""


_codecs: dict[str, BodyCodec] = {}
"""The codec in use, by its path."""


def codec_at(path: Any) -> BodyCodec:
    """Return the codec of this dotted path; a class is called without arguments.

    Raises:
        ImproperlyConfigured: there is none, or it can't be made.
    """
    try:
        found = import_string(path)
        codec = found() if isinstance(found, type) else found
    except ImproperlyConfigured:
        raise
    except Exception as error:
        raise ImproperlyConfigured(
            f"IDEMPOTENCY_BODY_CODEC = {path!r} must be the dotted path of a codec "
            f"({type(error).__name__}: {error})."
        ) from error
    for method in ("encode", "decode"):
        if not callable(getattr(codec, method, None)):
            raise ImproperlyConfigured(
                f"IDEMPOTENCY_BODY_CODEC = {path!r} must be the dotted path of a codec, "
                f"which has {method}(data, context)."
            )
    return codec  # type: ignore[no-any-return]


def require_codec() -> None:
    """Refuse to begin what could not be stored at its end.

    Raises:
        ImproperlyConfigured: the codec can't be used.
    """
    if conf.IDEMPOTENCY_BODY_CODEC is not None:
        _codec()


def _codec() -> BodyCodec | None:
    path = conf.IDEMPOTENCY_BODY_CODEC
    if path is None:
        return None
    if path not in _codecs:
        _codecs[path] = codec_at(path)
    return _codecs[path]


def _forget(*, setting: str, **more: Any) -> None:
    if setting.startswith("IDEMPOTENCY_BODY_"):
        _codecs.clear()


setting_changed.connect(_forget)


def of_answer(row_id: uuid.UUID) -> str:
    return f"{row_id.hex}:answer"


def of_payload(row_id: uuid.UUID) -> str:
    return f"{row_id.hex}:payload"


def of_step(row_id: uuid.UUID, step: str) -> str:
    return f"{row_id.hex}:step:{step}"


def of_word(link_id: uuid.UUID) -> str:
    return f"{link_id.hex}:word"


def stored(data: bytes, context: str) -> bytes:
    """Return the bytes as they are stored."""
    codec = _codec()
    if codec is not None:
        return ENCODED + codec.encode(data, context)
    return AS_IT_IS + data if data.startswith(MARK) else data


def longest(size: int) -> int:
    """About how long so many bytes get at rest: a codec may write them as text."""
    sample = min(size, SAMPLE)
    encoded = len(stored(bytes(sample), "sample"))
    return size if encoded <= sample else size + (encoded - sample) * size // SAMPLE


def read(data: bytes, context: str) -> bytes:
    """Return stored bytes as they were.

    Raises:
        Undecodable
    """
    if not data.startswith(MARK):
        return data
    if data.startswith(AS_IT_IS):
        return data.removeprefix(AS_IT_IS)
    return _decoded(data.removeprefix(ENCODED), context)


def encoded_text(text: str, context: str) -> str | None:
    """Return JSON as encoded text; ``None``: no codec is in use."""
    codec = _codec()
    if codec is None:
        return None
    return base64.b64encode(codec.encode(text.encode(), context)).decode()


def decoded_text(text: str, context: str) -> str:
    """
    Raises:
        Undecodable
    """
    try:
        return _decoded(base64.b64decode(text), context).decode()
    except ValueError as error:
        raise Undecodable(f"It isn't what a codec has written: {error}") from error


def stored_text(text: str, context: str) -> str:
    """Return JSON as it is stored where a text has no members to be told apart by."""
    encoded = encoded_text(text, context)
    return text if encoded is None else TEXT_MARK + encoded


def read_text(text: str, context: str) -> str:
    """
    Raises:
        Undecodable
    """
    if not text.startswith(TEXT_MARK):
        return text
    return decoded_text(text.removeprefix(TEXT_MARK), context)


def _decoded(data: bytes, context: str) -> bytes:
    try:
        codec = _codec()
        if codec is not None:
            # A view, since `bytes()` makes so many zeros of a number.
            return bytes(memoryview(codec.decode(data, context)))
    except Exception as error:
        raise Undecodable(
            f"IDEMPOTENCY_BODY_CODEC can't decode it: {type(error).__name__}. Give it "
            "back the key that it was encoded with, behind the first one."
        ) from error
    raise Undecodable(
        "It is encoded, and IDEMPOTENCY_BODY_CODEC isn't set. Set it again, with the "
        "key that it was encoded with."
    )
