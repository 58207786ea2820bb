"""The callers: accounts are recognised by their secret API key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import wraps

from django.http import HttpRequest, HttpResponseBase

from django_idempotency.http import Identified, principal_of

from .errors import stripe_error

__all__ = ["api_key_required", "principal"]

_View = Callable[..., HttpResponseBase]


def principal(request: HttpRequest) -> str:
    """The owner of idempotency keys (IDEMPOTENCY_PRINCIPAL): a digest of the API key.

    A digest, because scopes are stored and shown to operators, and the key is a secret.
    """
    if not (api_key := _api_key(request)):
        return principal_of(request)
    digest = hashlib.sha256(api_key.encode()).hexdigest()
    return Identified(f"api-key:{digest}")


def api_key_required(view: _View) -> _View:
    """Answer 401 to who shows no API key; which keys are good, the backend knows."""

    @wraps(view)
    def wrapped(request: HttpRequest, **parts: str) -> HttpResponseBase:
        if not _api_key(request).startswith("sk_"):
            return stripe_error(401, "invalid_request_error", "No API key provided.")
        return view(request, **parts)

    return wrapped


def _api_key(request: HttpRequest) -> str:
    return request.headers.get("Authorization", "").removeprefix("Bearer ")
