"""The thread in which a request's database connections live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run `function` in the thread of this request's connections, to its end.

    If the caller is cancelled, it still waits for the end, so that no transaction is
    left half-way.
    """
    running = asyncio.ensure_future(
        sync_to_async(function, thread_sensitive=True)(*args)
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(Exception):
            await running
        raise
