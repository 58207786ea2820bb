"""Whole requests in this process: from the WSGI environment to the closed response."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from django.core.wsgi import get_wsgi_application

__all__ = ["post"]


@cache
def _application() -> Callable[..., Any]:
    return get_wsgi_application()


def post(path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """Return the status and the body of the answer."""
    statuses: list[str] = []

    def start_response(status: str, *more: Any) -> None:
        statuses.append(status)

    response = _application()(_environment(path, body, headers), start_response)
    try:
        content = b"".join(response)
    finally:
        response.close()
    return int(statuses.pop().split()[0]), content


def _environment(path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{
            f"HTTP_{name.upper().replace('-', '_')}": value
            for name, value in headers.items()
        },
    }
