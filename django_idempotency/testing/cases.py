"""The same for those who test with unittest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client

from django_idempotency.webhooks import Profile

from .assertions import assert_idempotent
from .calls import Call
from .clients import AsyncIdempotentClient, IdempotentClient
from .crashing import crash_everywhere
from .deliveries import deliver
from .hammering import hammer
from .handlers import assert_handler_safe

__all__ = ["IdempotencyTestMixin"]


class IdempotencyTestMixin:
    """For Django's test cases, listed before them: clients with keys, and the tools.

    ``self.client`` sends a fresh key with each unsafe request. `hammer` and
    `crash_everywhere` need a ``TransactionTestCase``.
    """

    client: Client
    client_class: type[Client] = IdempotentClient
    async_client_class: type[AsyncClient] = AsyncIdempotentClient

    # The names are unittest's.
    def assertIdempotent(  # noqa: N802
        self, call: Call | str, data: Any = None, **options: Any
    ) -> None:
        """`assert_idempotent` with the test's own client."""
        assert_idempotent(self.client, call, data, **options)

    def assertHandlerSafe(  # noqa: N802
        self, receiver: Callable[..., Any], events: Sequence[Any], **options: Any
    ) -> None:
        """`assert_handler_safe`."""
        assert_handler_safe(receiver, events, **options)

    def hammer(
        self, call: Call | Callable[[], Call] | str, data: Any = None, **options: Any
    ) -> None:
        """`hammer` with the test's own client."""
        hammer(self.client, call, data, **options)

    def crashEverywhere(  # noqa: N802
        self, call: Call | Callable[[], Call] | str, data: Any = None, **options: Any
    ) -> list[str]:
        """`crash_everywhere` with the test's own client."""
        return crash_everywhere(self.client, call, data, **options)

    def deliver(
        self, path: str, profile: Profile, secret: str, event: Any, **options: Any
    ) -> HttpResponseBase:
        """`deliver` by the test's own client."""
        return deliver(self.client, path, profile, secret, event, **options)
