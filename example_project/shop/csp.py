"""A content security policy for Django 5.2; from 6.0 on it has a middleware of its own."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

__all__ = ["content_security_policy"]

_GetResponse = Callable[[HttpRequest], HttpResponseBase]


def content_security_policy(get_response: _GetResponse) -> _GetResponse:
    """Send what SECURE_CSP says along with each answer."""
    policy = "; ".join(
        " ".join([directive, *sources])
        for directive, sources in settings.SECURE_CSP.items()
    )

    def middleware(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", policy)
        return response

    return middleware
