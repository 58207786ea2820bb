"""An adapter for requests that sends a key, and the same one again; extra ``requests``."""

from __future__ import annotations

from math import inf
from time import sleep
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Timeout

from .retries import (
    CANNOT_BE_SENT_AGAIN,
    Answer,
    Call,
    Retries,
    is_problem,
    key_to_send,
    needs_key,
)

__all__ = ["IdempotentAdapter"]

# After any of these the request may have been carried out, or may get through the next
# time. Not what is wrong with the request itself, as an address without a host.
_LOST = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
_UNDECODED = requests.exceptions.ContentDecodingError


class IdempotentAdapter(HTTPAdapter):
    """Sends unsafe requests with a key until one is answered.

    A request with a key of the caller's keeps it; any other gets a random one. Safe
    requests pass as they are. Mounted for the addresses of the API:
    ``session.mount("https://api.example.com/", IdempotentAdapter())``.
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "_retries", "_header"]  # what is pickled

    def __init__(
        self,
        *,
        retries: Retries | None = None,
        header: str = "Idempotency-Key",
        **options: Any,
    ) -> None:
        """
        Raises:
            TypeError: `max_retries` is among the options of ``HTTPAdapter``.
        """
        if "max_retries" in options:
            raise TypeError(
                "Leave max_retries out: urllib3 would send the request again by rules of"
                " its own. Write IdempotentAdapter(retries=Retries(tries=3))."
            )
        self._retries = retries or Retries()
        self._header = header
        super().__init__(**options)

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        *args: Any,
        **options: Any,
    ) -> requests.Response:
        if not needs_key(request.method or "GET"):
            return super().send(request, stream, timeout, *args, **options)
        self._prepare(request)
        call = Call(retries=self._retries)
        while True:
            limit = _limit(timeout, call)
            try:
                response = super().send(request, stream, limit, *args, **options)
                # One that breaks off in the middle counts as lost.
                body = response.content
            except _LOST as error:
                # It is missing where an answer has broken off; whoever catches it looks
                # for the key there.
                error.request = error.request or request
                if (pause := call.pause_after_loss()) is None:
                    raise
            except _UNDECODED as error:
                error.request = request
                # It is here, and its status can be read all the same.
                if (pause := call.pause_after(_answer_of(response, b""))) is None:
                    raise
            else:
                pause = call.pause_after(_answer_of(response, body))
                if pause is None:
                    return response
            sleep(pause)

    def _prepare(self, request: requests.PreparedRequest) -> None:
        # On the request itself: a redirect and whoever catches the last error find the
        # key there.
        given = request.headers.get(self._header)
        if isinstance(given, bytes):
            given = given.decode("latin-1")
        request.headers[self._header] = key_to_send(given, self._header)
        if not isinstance(request.body, bytes | str | None):
            raise TypeError(CANNOT_BE_SENT_AGAIN)


def _limit(timeout: Any, call: Call) -> Any:
    """What the caller has given in one of the ways of requests, and what is left."""
    if isinstance(timeout, Timeout):
        limited = timeout.clone()
        total = timeout.total if isinstance(timeout.total, int | float) else inf
        limited.total = call.limit(total)
        return limited
    connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
    return Timeout(connect=call.limit(connect), read=call.limit(read))


def _answer_of(response: requests.Response, body: bytes) -> Answer:
    if not is_problem(response.headers.get("Content-Type")):
        body = b""
    return Answer.of(response.status_code, response.headers, body)
