"""The same for those who test with unittest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from django.core.exceptions import ImproperlyConfigured
from django.http.response import HttpResponseBase
from django.test import AsyncClient, Client, SimpleTestCase

from django_idempotency.webhooks import Profile

from .assertions import assert_idempotent
from .calls import Call
from .clients import AsyncIdempotentClient, IdempotentClient
from .crashing import crash_everywhere
from .deliveries import deliver
from .hammering import hammer
from .handlers import assert_handler_safe

__all__ = ["IdempotencyTestMixin"]

# What the functions take beside, for those who check types. A test compares the names.


class OutsideOption(TypedDict, total=False):
    outside: Collection[str]


class CrashOptions(OutsideOption): ...


class HammerOptions(OutsideOption, total=False):
    copies: int


class HandlerOptions(OutsideOption, total=False):
    max_orders: int


class AssertOptions(OutsideOption, total=False):
    effects: Callable[[], object] | None
    other_data: Any
    other_client: Client | None
    copies: int
    faults: bool
    ignore_headers: Collection[str]


class DeliverOptions(TypedDict, total=False):
    headers: Mapping[str, str] | None
    url: str | None


class IdempotencyTestMixin:
    """For Django's test cases, listed before them: clients with keys, and the tools.

    ``self.client`` sends a fresh key with each unsafe request. `hammer` and
    `crash_everywhere` need a ``TransactionTestCase``.
    """

    client: Client
    client_class: type[Client] = IdempotentClient
    async_client_class: type[AsyncClient] = AsyncIdempotentClient

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if SimpleTestCase in order and (
            order.index(SimpleTestCase) < order.index(IdempotencyTestMixin)
        ):
            raise ImproperlyConfigured(
                f"self.client of {cls.__name__} would send no keys: the mixin comes after "
                f"the test case. Write\n\n    class {cls.__name__}(IdempotencyTestMixin, "
                "TestCase):"
            )

    # The names are unittest's.
    def assertIdempotent(  # noqa: N802
        self, call: Call | str, data: Any = None, **options: Unpack[AssertOptions]
    ) -> None:
        """`assert_idempotent` with the test's own client."""
        assert_idempotent(self.client, call, data, **options)

    def assertHandlerSafe(  # noqa: N802
        self,
        receiver: Callable[..., Any],
        events: Sequence[Any],
        **options: Unpack[HandlerOptions],
    ) -> None:
        """`assert_handler_safe`."""
        assert_handler_safe(receiver, events, **options)

    def hammer(
        self,
        call: Call | Callable[[], Call] | str,
        data: Any = None,
        **options: Unpack[HammerOptions],
    ) -> None:
        """`hammer` with the test's own client."""
        hammer(self.client, call, data, **options)

    def crashEverywhere(  # noqa: N802
        self,
        call: Call | Callable[[], Call] | str,
        data: Any = None,
        **options: Unpack[CrashOptions],
    ) -> list[str]:
        """`crash_everywhere` with the test's own client."""
        return crash_everywhere(self.client, call, data, **options)

    def deliver(
        self,
        path: str,
        profile: Profile,
        secret: str,
        event: Any,
        **options: Unpack[DeliverOptions],
    ) -> HttpResponseBase:
        """`deliver` by the test's own client."""
        return deliver(self.client, path, profile, secret, event, **options)
