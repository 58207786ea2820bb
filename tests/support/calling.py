"""The package's clients for protected APIs, each called in the same way."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import httpx
import requests

from django_idempotency.contrib.httpx import (
    AsyncIdempotentTransport,
    IdempotentTransport,
)
from django_idempotency.contrib.requests import IdempotentAdapter
from django_idempotency.contrib.retries import Retries
from tests.support.client import Answer


class Lost(Exception):
    """There was no answer; `key` is the one that was sent."""

    def __init__(self, key: str | None) -> None:
        super().__init__(key)
        self.key = key


QUICK = Retries(
    first_pause=timedelta(milliseconds=1), longest_pause=timedelta(milliseconds=5)
)

Caller = Callable[..., Answer]

# It takes longer to make one than to make most of these calls.
_TLS = httpx.create_ssl_context()


def with_httpx(
    url: str, retries: Retries = QUICK, *, method: str = "POST", **request: Any
) -> Answer:
    inner = httpx.HTTPTransport(verify=_TLS)
    transport = IdempotentTransport(inner, retries=retries)
    with httpx.Client(transport=transport, trust_env=False) as client:
        try:
            response = client.request(method, url, **{"json": {"amount": 1}} | request)
        except httpx.TransportError as error:
            raise Lost(error.request.headers.get("Idempotency-Key")) from error
    return _answer(response)


def with_async_httpx(
    url: str, retries: Retries = QUICK, *, method: str = "POST", **request: Any
) -> Answer:
    async def call() -> httpx.Response:
        inner = httpx.AsyncHTTPTransport(verify=_TLS)
        transport = AsyncIdempotentTransport(inner, retries=retries)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            return await client.request(
                method, url, **{"json": {"amount": 1}} | request
            )

    try:
        return _answer(asyncio.run(call()))
    except httpx.TransportError as error:
        raise Lost(error.request.headers.get("Idempotency-Key")) from error


def _answer(response: httpx.Response) -> Answer:
    return Answer(
        status=response.status_code, headers=response.headers, body=response.content
    )


def with_requests(
    url: str, retries: Retries = QUICK, *, method: str = "POST", **request: Any
) -> Answer:
    if "content" in request:
        request["data"] = request.pop("content")
        request["json"] = None
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", IdempotentAdapter(retries=retries))
        try:
            response = session.request(method, url, **{"json": {"amount": 1}} | request)
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            sent = cast(requests.PreparedRequest, error.request)
            raise Lost(str(sent.headers.get("Idempotency-Key"))) from error
    return Answer(
        status=response.status_code, headers=response.headers, body=response.content
    )


CALLERS: dict[str, Caller] = {
    "httpx": with_httpx,
    "httpx-async": with_async_httpx,
    "requests": with_requests,
}
