"""Test clients that send a key with each unsafe request, as real clients do."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.utils.encoding import force_bytes

from django_idempotency.conf import conf

__all__ = ["AsyncIdempotentClient", "IdempotentClient", "KeyMixin", "sending_keys"]

SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")

if TYPE_CHECKING:
    Base = RequestFactory
else:
    Base = object


class KeyMixin(Base):
    """Gives each unsafe request of a test client a fresh key, unless it has one.

    Listed before the client's class.
    """

    def generic(
        self, method: Any, path: Any, data: Any = "", *args: Any, **options: Any
    ) -> Any:
        options = with_key(self, method, data, args, options)
        return super().generic(method, path, data, *args, **options)


class IdempotentClient(KeyMixin, Client):
    """Django's test client; each unsafe request has a fresh key unless one is given."""


class AsyncIdempotentClient(KeyMixin, AsyncClient):
    """`IdempotentClient` for async tests."""


@contextmanager
def sending_keys() -> Iterator[None]:
    """Let every test client and request factory of this process send keys.

    For the day on which a project with many tests protects its first view.
    """
    with (
        patch.object(RequestFactory, "generic", _keyed(RequestFactory.generic)),
        patch.object(
            AsyncRequestFactory, "generic", _keyed(AsyncRequestFactory.generic)
        ),
    ):
        yield


def _keyed(generic: Any) -> Any:
    @wraps(generic)
    def keyed(
        self: Any, method: Any, path: Any, data: Any = "", *args: Any, **options: Any
    ) -> Any:
        options = with_key(self, method, data, args, options)
        return generic(self, method, path, data, *args, **options)

    return keyed


def with_key(
    client: Any, method: str, data: Any, args: Sequence[Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the request's options with a fresh key, unless it has one or needs none."""
    headers = dict(options.get("headers") or {})
    content_type = args[0] if args else options.get("content_type", "")
    has_key = _names_key([*headers, *options, *client.defaults]) or (
        str(content_type).startswith(FORMS) and _in_form(data)
    )
    if method.upper() not in SAFE and not has_key:
        headers[conf.IDEMPOTENCY_HEADER] = str(uuid.uuid4())
    return {**options, "headers": headers}


def _names_key(names: Iterable[str]) -> bool:
    """Whether one of them is the header, as it is sent or as META has it."""
    wanted = _plain(conf.IDEMPOTENCY_HEADER)
    return any(_plain(name) == wanted for name in names)


def _plain(name: str) -> str:
    return name.upper().replace("-", "_").removeprefix("HTTP_")


def _in_form(data: Any) -> bool:
    """Whether a form has the field; one too many finds a test that says so at once."""
    return conf.IDEMPOTENCY_FIELD.encode() in force_bytes(data)
