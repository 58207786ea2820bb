"""One request, to be sent as often as a test wants."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.http.response import HttpResponseBase
from django.test import AsyncRequestFactory, Client

from django_idempotency.conf import conf
from django_idempotency.http.requests import header_in_meta

__all__ = ["Call"]

JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request without its key."""

    path: str
    data: Any = None
    """The body as the client's ``post()`` takes it. With REST framework's client, too,
    JSON may be given as a dict or a list."""
    method: str = "post"
    content_type: str | None = JSON
    """``None``: the client's default, or what ``format`` in `extra` says."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Further keyword arguments for the client, such as ``headers``."""

    def send(self, client: Client, key: str) -> HttpResponseBase:
        data, options = self.data, dict(self.extra)
        if self.content_type is not None:
            options["content_type"] = self.content_type
        if self.content_type == JSON and isinstance(data, dict | list | tuple):
            data = json.dumps(data, cls=DjangoJSONEncoder)
        response: HttpResponseBase = getattr(client, self.method)(
            self.path, data, **options, **{header_in_meta(): key}
        )
        return response


def call_of(call: Call | str, data: Any) -> Call:
    """Return the call, or the POST of `data` as JSON to a path."""
    return Call(path=call, data=data) if isinstance(call, str) else call


def new_key() -> str:
    return str(uuid.uuid4())


def require_sync(client: Any) -> None:
    """Refuse a client whose answers have to be awaited.

    Raises:
        TypeError: with what to hand over.
    """
    if isinstance(client, AsyncRequestFactory):
        raise TypeError(
            "This sends requests one after the other, and in threads, to async views as "
            "well, so it can't await their answers. Hand over\n\n    django.test.Client()"
        )


def require_commits(what: str, otherwise: str = "") -> None:
    """Refuse to work inside a test's transaction.

    Raises:
        AssertionError: with the lines to write.
    """
    require(
        not any(each.in_atomic_block for each in connections.all()),
        f"{what} an open transaction has written: use TransactionTestCase or "
        f"django_db(transaction=True){otherwise}.",
    )


def is_replay(response: HttpResponseBase) -> bool:
    return response.headers.get(conf.IDEMPOTENCY_REPLAYED_HEADER) == "true"


def code_of(response: HttpResponseBase) -> str | None:
    """The code of the problem that was answered, if it is one."""
    if response.headers.get("Content-Type") != "application/problem+json":
        return None
    code: str | None = json.loads(getattr(response, "content", b"")).get("code")
    return code


def beginning(response: HttpResponseBase) -> str:
    return repr(getattr(response, "content", b"")[:200])


def require(condition: bool, sentence: str) -> None:
    # Not an assert statement, which Python removes under -O.
    if not condition:
        raise AssertionError(sentence)
