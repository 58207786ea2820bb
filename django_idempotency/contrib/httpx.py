"""Transports for httpx that send a key, and the same one again; needs extra ``httpx``."""

from __future__ import annotations

from time import sleep
from types import TracebackType
from typing import cast

import anyio
import httpx

from .retries import (
    CANNOT_BE_SENT_AGAIN,
    Answer,
    Call,
    Retries,
    is_problem,
    key_to_send,
    needs_key,
)

__all__ = ["AsyncIdempotentTransport", "IdempotentTransport"]

# After any of these the request may have been carried out, or may get through the next
# time. Not what is wrong with the request itself, as an address without http://.
_LOST = (
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
)


class IdempotentTransport(httpx.BaseTransport):
    """Sends unsafe requests with a key through another transport until one is answered.

    A request with a key of the caller's keeps it; any other gets a random one. Safe
    requests pass as they are.
    """

    def __init__(
        self,
        transport: httpx.BaseTransport | None = None,
        *,
        retries: Retries | None = None,
        header: str = "Idempotency-Key",
    ) -> None:
        self._transport = transport or httpx.HTTPTransport()
        self._retries = retries or Retries()
        self._header = header

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if not needs_key(request.method):
            return self._transport.handle_request(request)
        _prepare(request, self._header)
        call, limits = Call(retries=self._retries), _limits_of(request)
        while True:
            _limit(request, limits, call)
            try:
                response = self._transport.handle_request(request)
                try:
                    # One that breaks off in the middle counts as lost.
                    raw = b"".join(cast(httpx.SyncByteStream, response.stream))
                finally:
                    response.close()
            except _LOST:
                if (pause := call.pause_after_loss()) is None:
                    raise
            else:
                pause = call.pause_after(_answer_of(response, raw))
                if pause is None:
                    return _whole(response, raw)
            sleep(pause)

    def __enter__(self) -> IdempotentTransport:
        self._transport.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._transport.__exit__(exc_type, exc_value, traceback)

    def close(self) -> None:
        self._transport.close()


class AsyncIdempotentTransport(httpx.AsyncBaseTransport):
    """The same for ``httpx.AsyncClient``, on asyncio and on trio."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport | None = None,
        *,
        retries: Retries | None = None,
        header: str = "Idempotency-Key",
    ) -> None:
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._retries = retries or Retries()
        self._header = header

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not needs_key(request.method):
            return await self._transport.handle_async_request(request)
        _prepare(request, self._header)
        call, limits = Call(retries=self._retries), _limits_of(request)
        while True:
            _limit(request, limits, call)
            try:
                response = await self._transport.handle_async_request(request)
                try:
                    parts = cast(httpx.AsyncByteStream, response.stream)
                    raw = b"".join([part async for part in parts])
                finally:
                    await response.aclose()
            except _LOST:
                if (pause := call.pause_after_loss()) is None:
                    raise
            else:
                pause = call.pause_after(_answer_of(response, raw))
                if pause is None:
                    return _whole(response, raw)
            await anyio.sleep(pause)

    async def __aenter__(self) -> AsyncIdempotentTransport:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        await self._transport.aclose()


def _prepare(request: httpx.Request, header: str) -> None:
    # On the request itself: a redirect, a second round of authentication and whoever
    # catches the last error find the key there.
    request.headers[header] = key_to_send(request.headers.get(header), header)
    stream = request.stream
    if not isinstance(stream, httpx.SyncByteStream) or not isinstance(
        stream, httpx.AsyncByteStream
    ):
        raise TypeError(CANNOT_BE_SENT_AGAIN)
    request.read()  # of a form with files, which may be at their end afterwards


def _limits_of(request: httpx.Request) -> dict[str, float | None]:
    """How long the caller wants to wait, as the client has noted it."""
    return dict.fromkeys(("connect", "read", "write", "pool")) | dict(
        request.extensions.get("timeout", {})
    )


def _limit(request: httpx.Request, limits: dict[str, float | None], call: Call) -> None:
    limited = {name: call.limit(seconds) for name, seconds in limits.items()}
    request.extensions = {**request.extensions, "timeout": limited}


def _answer_of(response: httpx.Response, raw: bytes) -> Answer:
    body = b""
    if is_problem(response.headers.get("Content-Type")):
        try:
            body = _whole(response, raw).read()  # it may be compressed
        except httpx.DecodingError:
            body = b""
    return Answer.of(response.status_code, response.headers, body)


def _whole(response: httpx.Response, raw: bytes) -> httpx.Response:
    """The response with its body at hand, which nobody has read yet."""
    return httpx.Response(
        response.status_code,
        headers=response.headers,
        stream=httpx.ByteStream(raw),
        extensions=response.extensions,
    )
