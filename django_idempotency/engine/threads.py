"""What must come to its end, and the thread in which database connections live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run `function` in the thread of this request's connections, to its end.

    No transaction is left half-way by a caller that is cancelled.
    """
    return await to_its_end(sync_to_async(function, thread_sensitive=True)(*args))


async def to_its_end(work: Awaitable[T]) -> T:
    """Await this; a caller that is cancelled, however often, still waits for the end."""
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return running.result()
    if not running.cancelled():
        running.exception()  # or asyncio would report that nobody has asked for it
    raise cancelled
