"""Reads a request's payload for the fingerprint, and leaves it for the view."""

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
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.http.request import RawPostDataException

from django_idempotency.conf import conf
from django_idempotency.core.fingerprints import (
    Pieces,
    canonical_bytes,
    canonical_form,
    canonical_json,
    canonical_pairs,
)

from .notes import notes_of

CHUNK = 64 * 1024
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"


def hold_body(request: HttpRequest) -> None:
    """Make the body readable for us *and* for whatever reads it after us.

    Up to DATA_UPLOAD_MAX_MEMORY_SIZE Django's own ``request.body`` does that. Above it,
    Django refuses ``request.body``, but not the stream: a view or parser that streams
    must still work. A large upload is left to Django's own parser.
    """
    state = vars(request)
    # A bare HttpRequest(), as unit tests make it, has no stream, and so no body.
    if "_read_started" not in state:
        state.setdefault("_body", b"")
    if "_body" in state or state["_read_started"] or _copy_of(request) is not None:
        return
    limit = cast("int | None", settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    if limit is None or _content_length(request) <= limit:
        request.body  # noqa: B018 - reading it is what keeps it
    elif request.content_type != MULTIPART or request.method != "POST":
        copy = _CopyingStream(request._stream, limit)
        request._stream = io.BufferedReader(copy)
        notes_of(request).body_copy = copy


def raw_body(request: HttpRequest, limit: int) -> bytes | None:
    """Return the body as it came, ``None`` if it is longer than `limit` bytes.

    Raises:
        RawPostDataException: something has read the stream without keeping it.
    """
    if _content_length(request) > limit:
        return None
    hold_body(request)
    copy = _copy_of(request)
    body = request.body if copy is None else copy.whole().read(limit + 1)
    return body if len(body) <= limit else None


def form_field(request: HttpRequest, name: str) -> str | None:
    """Return a field of the form that was sent, with any method.

    Django itself parses forms for POST only; but scripts and frameworks send them with
    PUT, PATCH and DELETE as well.
    """
    hold_body(request)  # the view may read the form's bytes as well
    if request.method == "POST" or "_post" in vars(request):
        return request.POST.get(name)
    try:
        if request.content_type == MULTIPART:
            fields, _no_files = _parsed_multipart(request, upload_handlers=[])
        elif _copy_of(request) is None:
            fields = QueryDict(request.body, encoding=request.encoding)
        else:
            return None
    except (MultiPartParserError, SuspiciousOperation, RawPostDataException):
        return None  # a view that doesn't parse it must not be refused for it
    return cast("str | None", fields.get(name))


def canonical_payload(
    request: HttpRequest, exclude: Collection[str], parsed: Any = None
) -> Pieces:
    """Return what is equal, as a whole, for payloads that mean the same.

    `parsed` is what a framework's parser made of the body. It is compared for uploads,
    and otherwise only if the parser ran before us and left no bytes.
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
    """The type without parameters that don't change the payload's meaning."""
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
    copy: _CopyingStream | None = notes_of(request).body_copy
    return copy


def _is_json(content_type: str | None) -> bool:
    return content_type is not None and (
        content_type == "application/json" or content_type.endswith("+json")
    )


def _content_length(request: HttpRequest) -> int:
    """Return the length as Django reads it: an invalid one is 0."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _with_form_fields(exclude: Collection[str]) -> Collection[str]:
    """Add the fields whose values change with each rendering of a form."""
    return {*exclude, "csrfmiddlewaretoken", conf.IDEMPOTENCY_FIELD}


def _canonical_multipart(
    request: HttpRequest, exclude: Collection[str], *, was_parsed: bool
) -> Pieces:
    """Compare parts, not bytes: each client and each attempt has its own boundary."""
    try:
        fields, files = _parts(request, was_parsed=was_parsed)
    except (MultiPartParserError, SuspiciousOperation):
        if request.method == "POST":
            raise
        # Django wouldn't parse it for this view, so we must not refuse it either.
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
    """Return fields and files, for any method; Django parses them only for POST."""
    if request.method == "POST" or was_parsed:
        return request.POST, request.FILES
    handlers = [load_handler(path, request) for path in settings.FILE_UPLOAD_HANDLERS]
    return _parsed_multipart(request, handlers)


def _parsed_multipart(
    request: HttpRequest, upload_handlers: list[Any]
) -> tuple[Any, Any]:
    """Return fields, and the files that the handlers have stored; none store none."""
    copy = _copy_of(request)
    body: Any = io.BytesIO(request.body) if copy is None else copy.whole()
    encoding = request.encoding or settings.DEFAULT_CHARSET
    return MultiPartParser(request.META, body, upload_handlers, encoding).parse()


def _described(file: Any) -> list[Any]:
    """Return what identifies an uploaded file; leave it at its start."""
    if not isinstance(file, UploadedFile):
        raise TypeError(f"{type(file).__name__} isn't an uploaded file")
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    file.seek(0)
    return [file.name, file.content_type, file.size, digest.hexdigest()]


def _canonical_parsed(parsed: Any, exclude: Collection[str]) -> Pieces:
    try:
        return canonical_json(json.dumps(parsed, default=_described).encode(), exclude)
    except TypeError:
        raise RawPostDataException(
            "The body was read before the idempotency check, and the parser's result "
            "can't be compared. Let the check come first, or give the policy a "
            "fingerprint function."
        ) from None


class _CopyingStream(io.RawIOBase):
    """A large body that can be digested and still be read by the view.

    What is read from the source is copied to a temporary file, in which the view's
    reader has a position of its own.
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
