"""Reading a request's payload for its fingerprint, and leaving it for the view."""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Collection
from functools import lru_cache
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import load_handler
from django.http import HttpRequest
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.http.request import RawPostDataException

from .conf import conf
from .fingerprints import (
    canonical_bytes,
    canonical_form,
    canonical_json,
    canonical_pairs,
)

__all__ = ["canonical_payload", "hold_body"]

CHUNK = 64 * 1024
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


def hold_body(request: HttpRequest) -> None:
    """Make the body readable for us *and* for whoever reads it after us.

    Up to DATA_UPLOAD_MAX_MEMORY_SIZE Django's own ``request.body`` does that. Beyond,
    ``request.body`` is refused, but the stream is not: a view or parser that streams
    must go on working. A large upload is left to Django's own parser.
    """
    state = vars(request)
    if "_body" in state or "_idempotency_copy" in state or state["_read_started"]:
        return
    limit = cast("int | None", settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    if limit is None or _content_length(request) <= limit:
        request.body  # noqa: B018 - reading it is what keeps it
    elif request.content_type != MULTIPART or request.method != "POST":
        copy = _CopyingStream(request._stream, limit)
        request._stream = io.BufferedReader(copy)
        request._idempotency_copy = copy  # type: ignore[attr-defined]


def raw_body(request: HttpRequest, limit: int) -> bytes | None:
    """Return the body as it came, ``None`` if it is longer than `limit` bytes.

    Raises:
        RawPostDataException: something has read the stream and kept nothing.
    """
    if _content_length(request) > limit:
        return None
    hold_body(request)
    copy = _copy_of(request)
    body = request.body if copy is None else copy.whole().read(limit + 1)
    return body if len(body) <= limit else None


def canonical_payload(
    request: HttpRequest, exclude: Collection[str], parsed: Any = None
) -> bytes:
    """Return bytes that are equal for payloads that mean the same.

    `parsed` is what a framework's parser made of the body. Of an upload it is what
    counts; else it serves where the parser ran before us and left no bytes.
    """
    if request.content_type == MULTIPART:
        return _canonical_multipart(request, exclude, was_parsed=parsed is not None)
    if (copy := _copy_of(request)) is not None:
        return canonical_bytes(copy.digest())
    try:
        body = request.body
    except RawPostDataException:
        if parsed is None:
            raise
        return _canonical_parsed(parsed, exclude)
    if request.content_type == FORM:
        limit = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        return canonical_form(body, _with_form_fields(exclude), limit)
    if _is_json(request.content_type):
        return canonical_json(body, exclude)
    return canonical_bytes(body)


def media_type(request: HttpRequest) -> bytes:
    """The type without what says nothing about the payload's meaning."""
    parameters = sorted(
        (name, value)
        for name, value in (request.content_params or {}).items()
        if name not in {"charset", "boundary"}
    )
    return _canonical_type(request.content_type or "", *parameters)


@lru_cache(maxsize=64)
def _canonical_type(content_type: str, *parameters: tuple[str, str]) -> bytes:
    return json.dumps([content_type, parameters]).encode()


def _copy_of(request: HttpRequest) -> _CopyingStream | None:
    return getattr(request, "_idempotency_copy", None)


def _is_json(content_type: str | None) -> bool:
    return content_type is not None and (
        content_type == "application/json" or content_type.endswith("+json")
    )


def _content_length(request: HttpRequest) -> int:
    """Return what Django reads as the length: nonsense is 0."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _with_form_fields(exclude: Collection[str]) -> Collection[str]:
    """Add the fields that are made anew with each rendering of a form."""
    return {*exclude, "csrfmiddlewaretoken", conf.IDEMPOTENCY_FIELD}


def _canonical_multipart(
    request: HttpRequest, exclude: Collection[str], *, was_parsed: bool
) -> bytes:
    """Compare parts, not bytes: each client and each attempt has its own boundary."""
    try:
        fields, files = _parts(request, was_parsed=was_parsed)
    except (MultiPartParserError, SuspiciousOperation):
        if request.method == "POST":
            raise
        # Django doesn't parse it for such a view, so that nobody but us would refuse.
        copy = _copy_of(request)
        return canonical_bytes(request.body if copy is None else copy.digest())
    exclude = _with_form_fields(exclude)
    pairs = [(name, value) for name, values in fields.lists() for value in values]
    digests = [
        (name, json.dumps(_described(file)))
        for name, values in files.lists()
        for file in values
    ]
    return canonical_pairs(pairs, exclude) + canonical_pairs(digests, exclude)


def _parts(request: HttpRequest, *, was_parsed: bool) -> tuple[Any, Any]:
    """Return fields and files; Django itself parses them for POST only."""
    if request.method == "POST" or was_parsed:
        return request.POST, request.FILES
    copy = _copy_of(request)
    body: Any = io.BytesIO(request.body) if copy is None else copy.whole()
    handlers = [load_handler(path, request) for path in settings.FILE_UPLOAD_HANDLERS]
    encoding = request.encoding or settings.DEFAULT_CHARSET
    return MultiPartParser(request.META, body, handlers, encoding).parse()


def _described(file: Any) -> list[Any]:
    """Return what an uploaded file is told by; it is left at its start."""
    if not isinstance(file, UploadedFile):
        raise TypeError(f"{type(file).__name__} is no uploaded file")
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    return [file.name, file.content_type, file.size, digest.hexdigest()]


def _canonical_parsed(parsed: Any, exclude: Collection[str]) -> bytes:
    try:
        return canonical_json(json.dumps(parsed, default=_described).encode(), exclude)
    except TypeError:
        raise RawPostDataException(
            "The body was read before the idempotency check, and what the parser made "
            "of it can't be compared. Let the check come first, or give the policy a "
            "fingerprint function."
        ) from None


class _CopyingStream(io.RawIOBase):
    """A large body that can be digested without being taken from its reader.

    What is read from the source goes to a temporary file; the reader has a position of
    its own in it.
    """

    def __init__(self, source: IO[bytes], memory: int) -> None:
        self._source = source
        self._copy = tempfile.SpooledTemporaryFile(max_size=memory)  # noqa: SIM115
        self._copied = 0
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._position == self._copied:
            self._pull(len(buffer))
        self._copy.seek(self._position)
        data = self._copy.read(min(len(buffer), self._copied - self._position))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def digest(self) -> bytes:
        digest = hashlib.sha256()
        body = self.whole()
        while chunk := body.read(CHUNK):
            digest.update(chunk)
        return digest.digest()

    def whole(self) -> IO[bytes]:
        """Return the body from its start; the reader's position is not moved."""
        while self._pull(CHUNK):
            pass
        self._copy.seek(0)
        return self._copy

    def close(self) -> None:
        self._copy.close()
        super().close()

    def _pull(self, size: int) -> int:
        data = self._source.read(size)
        self._copy.seek(self._copied)
        self._copy.write(data)
        self._copied += len(data)
        return len(data)
