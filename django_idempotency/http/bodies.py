"""Reads a request's payload for the fingerprint, and leaves it for the view."""

from __future__ import annotations

import codecs
import hashlib
import io
import json
import tempfile
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cached_property, lru_cache
from typing import IO, Any, BinaryIO, cast

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.http.request import RawPostDataException
from django.utils.encoding import force_str

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

UNPARSABLE = (MultiPartParserError, SuspiciousOperation, LookupError, ValueError)
"""What a form's parser raises: for a broken form, one over a limit, an odd charset."""


def watch_body(request: HttpRequest) -> None:
    """Keep what others read of the body from now on; nothing is read yet.

    Without it, what a permission or a parser has taken from the stream is gone.
    """
    state = vars(request)
    if state.get("_read_started", True) or "_body" in state or _copy_of(request):
        return
    if request._stream.seekable():  # as under ASGI, where all of it has been received
        notes_of(request).body_copy = _Rewound(request._stream)
        return
    copy = _Watched(request._stream, _memory_limit())
    request._stream = cast("BinaryIO", copy)
    notes_of(request).body_copy = copy


def hold_body(request: HttpRequest) -> None:
    """Make the body readable for us *and* for whatever reads it after us.

    Up to DATA_UPLOAD_MAX_MEMORY_SIZE Django's own ``request.body`` does that. Above it,
    Django refuses ``request.body``, but not the stream: a view or parser that streams
    must still work.
    """
    state = vars(request)
    # A bare HttpRequest(), as unit tests make it, has no stream, and so no body.
    if "_read_started" not in state:
        state.setdefault("_body", b"")
    if "_body" in state or state["_read_started"]:
        return
    if not _fits_memory(request):
        watch_body(request)
        return
    copy = _copy_of(request)
    if isinstance(copy, _Watched):
        request._stream = cast(
            "BinaryIO", copy.source
        )  # nobody has read it: there is nothing to keep
    notes_of(request).body_copy = None
    request.body  # noqa: B018 - reading it is what keeps it


def size_of(request: HttpRequest) -> int:
    """Return the length of the body, in bytes; none of it is read for that."""
    state = vars(request)
    if "_body" in state:
        return len(request.body)
    copy = _copy_of(request)
    stream = copy.source if copy is not None else state.get("_stream")
    if stream is None or not stream.seekable():
        return _content_length(request)
    # A body that came in chunks has no Content-Length.
    position = stream.tell()
    size: int = stream.seek(0, io.SEEK_END)
    stream.seek(position)
    return size


def raw_body(request: HttpRequest, limit: int) -> bytes | None:
    """Return the body as it came, ``None`` if it is longer than `limit` bytes.

    Raises:
        RawPostDataException: something has read the stream without keeping it.
    """
    if size_of(request) > limit:
        return None
    with _opened(request) as stream:
        body = stream.read(limit + 1)
    return body if len(body) <= limit else None


def form_field(request: HttpRequest, name: str) -> str | None:
    """Return a field of the form that was sent, with any method.

    Django itself parses forms for POST only; but scripts and frameworks send them with
    PUT, PATCH and DELETE as well. It is left to the view whether Django parses the form,
    with which handlers, and what becomes of one that can't be parsed.
    """
    fields, _files = _form_of(request)
    return cast("str | None", fields.get(name))


def form_fields(request: HttpRequest) -> dict[str, list[str]] | None:
    """Return all fields of the form that was sent; ``None``: it is more than fields."""
    fields, files = _form_of(request)
    return None if files or not fields else dict(fields.lists())


def _form_of(request: HttpRequest) -> tuple[Any, Any]:
    if parsed := vars(request).get("_post"):
        return parsed, vars(request).get("_files")
    with suppress(*UNPARSABLE, RawPostDataException):
        if request.content_type == MULTIPART:
            return _parts(request)
        if (body := _short_body(request)) is not None:
            return QueryDict(body, encoding="utf-8"), None
    return {}, None


def canonical_payload(
    request: HttpRequest, exclude: Collection[str], view_request: Any = None
) -> Pieces:
    """Return what is equal, as a whole, for payloads that mean the same.

    `view_request` is a framework's wrapper: if its parser ran before us and left no
    bytes, what it made of them is compared.
    """
    try:
        if request.content_type == MULTIPART:
            return _canonical_multipart(request, exclude)
        body = _short_body(request)
        if body is None:
            return canonical_bytes(_digest(request))
    except RawPostDataException:
        if view_request is None or view_request is request:
            raise
        return _canonical_parsed(view_request.data, exclude)
    if request.content_type == FORM:
        limit = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
        return canonical_form(body, _with_form_fields(exclude), limit)
    if _is_json(request.content_type):
        return canonical_json(body, exclude)
    return canonical_bytes(body)


def media_type(request: HttpRequest) -> bytes:
    """The type without parameters that don't change the payload's meaning.

    UTF-8 is what a body is in anyway. Under another charset the same bytes are another
    text, to Django's forms and queries and to REST framework's parsers.
    """
    parameters = sorted(
        (name, value)
        for name, value in (request.content_params or {}).items()
        if name not in {"charset", "boundary"}
    )
    charset = request.encoding or settings.DEFAULT_CHARSET
    return _canonical_type(request.content_type or "", charset, *parameters)


@lru_cache(maxsize=64)
def _canonical_type(
    content_type: str, charset: str, *parameters: tuple[str, str]
) -> bytes:
    with suppress(LookupError):  # an odd one is the view's affair
        charset = codecs.lookup(charset).name
    if charset != "utf-8":
        parameters = (("charset", charset), *parameters)
    return json.dumps([content_type, parameters]).encode()


def _copy_of(request: HttpRequest) -> _Watched | _Rewound | None:
    copy: _Watched | _Rewound | None = notes_of(request).body_copy
    return copy


def _memory_limit() -> int | None:
    return cast("int | None", settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def _fits_memory(request: HttpRequest) -> bool:
    limit = _memory_limit()
    return limit is None or size_of(request) <= limit


@contextmanager
def _opened(request: HttpRequest) -> Iterator[IO[bytes]]:
    """Open the body at its start; what the view reads of it is not touched.

    Raises:
        RawPostDataException: something has read the stream without keeping it.
    """
    hold_body(request)
    copy = _copy_of(request)
    if copy is None or "_body" in vars(request):
        yield io.BytesIO(request.body)
    else:
        with copy.opened() as stream:
            yield stream


def _short_body(request: HttpRequest) -> bytes | None:
    """Return the body; ``None``: it is longer than Django would keep in memory."""
    hold_body(request)
    if "_body" in vars(request):
        body, limit = request.body, _memory_limit()
        return body if limit is None or len(body) <= limit else None
    if not _fits_memory(request):
        return None
    with _opened(request) as stream:
        return stream.read()


def _digest(request: HttpRequest) -> bytes:
    digest = hashlib.sha256()
    with _opened(request) as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.digest()


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


def _canonical_multipart(request: HttpRequest, exclude: Collection[str]) -> Pieces:
    """Compare parts, not bytes: each client and each attempt has its own boundary."""
    state = vars(request)
    try:
        if state.get("_post") or state.get("_files"):
            fields, files = request.POST, request.FILES
        else:
            fields, files = _parts(request)
    except UNPARSABLE:
        # Whether it is parsed, and refused, is up to the view.
        return canonical_bytes(_digest(request))
    exclude = _with_form_fields(exclude)
    pairs = [(name, value) for name, values in fields.lists() for value in values]
    digests = [
        (name, json.dumps(_described(file)))
        for name, values in files.lists()
        for file in values
    ]
    return canonical_pairs(pairs, exclude) + canonical_pairs(digests, exclude)


def _parts(request: HttpRequest) -> tuple[Any, Any]:
    """Return the fields and the digests of the files; the view's parser runs anew."""
    notes = notes_of(request)
    if notes.form is None:
        # Django takes a form of unknown length for an empty one.
        meta = {**request.META, "CONTENT_LENGTH": size_of(request)}
        encoding = request.encoding or settings.DEFAULT_CHARSET
        handlers = [_Digesting()]
        with _opened(request) as stream:
            parser = MultiPartParser(meta, cast("Any", stream), handlers, encoding)
            notes.form = parser.parse()
    fields, files = notes.form
    return fields, files


class _Digesting(FileUploadHandler):
    """Digests files, and stores none of them."""

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._digest = hashlib.sha256()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self._digest.update(raw_data)

    def file_complete(self, file_size: int) -> UploadedFile[bytes]:
        file = UploadedFile(
            io.BytesIO(),
            self.file_name,
            self.content_type,
            file_size,
            content_type_extra=self.content_type_extra,
        )
        file.digest = self._digest.hexdigest()  # type: ignore[attr-defined]
        return file


def _described(file: Any) -> list[Any]:
    """Return what identifies an uploaded file; leave it at its start."""
    if not isinstance(file, UploadedFile):
        raise TypeError(f"{type(file).__name__} isn't an uploaded file")
    hexdigest = getattr(file, "digest", None)
    if hexdigest is None:
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        file.seek(0)
        hexdigest = digest.hexdigest()
    # Such as the charset that its bytes are to be read in.
    parameters = {
        name: force_str(value, "latin-1")
        for name, value in (file.content_type_extra or {}).items()
    }
    return [
        file.name,
        file.content_type,
        file.size,
        hexdigest,
        *sorted(parameters.items()),
    ]


def _canonical_parsed(parsed: Any, exclude: Collection[str]) -> Pieces:
    try:
        return canonical_json(json.dumps(parsed, default=_described).encode(), exclude)
    except TypeError:
        raise RawPostDataException(
            "The body was read before the idempotency check, and the parser's result "
            "can't be compared. Let the check come first, or give the policy a "
            "fingerprint function."
        ) from None


class _Watched:
    """A body that is copied as soon as somebody reads it; usually nobody does before us.

    A stream that nobody reads would cost more than all the rest of reading a body.
    """

    def __init__(self, source: IO[bytes], memory: int | None) -> None:
        self.source = source
        self._memory = memory

    @cached_property
    def _copy(self) -> _CopyingStream:
        return _CopyingStream(self.source, self._memory)

    @cached_property
    def _reader(self) -> io.BufferedReader:
        return io.BufferedReader(self._copy)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    def opened(self) -> AbstractContextManager[IO[bytes]]:
        return self._copy.opened()


class _CopyingStream(io.RawIOBase):
    """A body that can be digested and still be read by the view.

    What is read from the source is copied to a temporary file, in which the view's
    reader has a position of its own.
    """

    def __init__(self, source: IO[bytes], memory: int | None) -> None:
        self.source = source
        self._memory = memory or 0
        self._copied = 0
        self._position = 0

    @cached_property
    def _copy(self) -> IO[bytes]:
        return tempfile.SpooledTemporaryFile(max_size=self._memory)

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

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        """Open the body at its start; the reader's position is not moved."""
        while self._pull(CHUNK):
            pass
        self._copy.seek(0)
        yield self._copy

    def close(self) -> None:
        if "_copy" in vars(self):
            self._copy.close()
        super().close()

    def _pull(self, size: int) -> int:
        data = self.source.read(size)
        self._copy.seek(self._copied)
        self._copy.write(data)
        self._copied += len(data)
        return len(data)


class _Rewound:
    """A body that is in a file already; the view reads on where it was."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source = source

    @contextmanager
    def opened(self) -> Iterator[IO[bytes]]:
        position = self.source.tell()
        self.source.seek(0)
        try:
            yield self.source
        finally:
            self.source.seek(position)
