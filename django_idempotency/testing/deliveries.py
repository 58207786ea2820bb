"""A webhook as its provider sends it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from django.core.serializers.json import DjangoJSONEncoder
from django.http.response import HttpResponseBase
from django.test import Client

from django_idempotency.webhooks import Profile

from .signing import signed

__all__ = ["deliver"]

FORM = "application/x-www-form-urlencoded"


def deliver(
    client: Client,
    path: str,
    profile: Profile,
    secret: str,
    event: Any,
    *,
    headers: Mapping[str, str] | None = None,
    url: str | None = None,
) -> HttpResponseBase:
    """Sign an event as the provider does, now, and post it.

    `event` is the body's content, or the body as bytes. `headers` are what the provider
    sends besides, such as ``{"X-GitHub-Event": "push"}``; an id that the profile reads
    from a header is made up, if none is given. `url` is the public address, where that
    is signed and the receiver was told it.

    Raises:
        ImproperlyConfigured: the profile's verifier can't be signed for.
    """
    body, all_headers = signed(
        profile,
        secret,
        body_of(profile, event),
        headers,
        url=url or f"http://testserver{path}",
    )
    response: HttpResponseBase = client.post(
        path,
        data=body,
        content_type=FORM if profile.is_form else "application/json",
        headers=all_headers,
    )
    return response


def body_of(profile: Profile, event: Any) -> bytes:
    if isinstance(event, bytes):
        return event
    if profile.is_form:
        return urlencode(event).encode()
    return json.dumps(event, cls=DjangoJSONEncoder).encode()
