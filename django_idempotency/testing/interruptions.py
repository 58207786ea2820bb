"""Lets a call fail at one point after the other: before a step, in it, and at the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from unittest.mock import patch

from django_idempotency.engine.idempotency import Idempotency
from django_idempotency.engine.outside_calls import senders
from django_idempotency.http import protection


class ProcessEnded(BaseException):
    """Passes through every ``except Exception``, as the end of a process does."""


class AnswerLost(TimeoutError):
    """The other side did what it was asked for, and its answer didn't arrive."""


@dataclass(slots=True, kw_only=True)
class Points:
    """The points that one call goes through, and at which of them it fails."""

    fails_at: int | None = None
    """``None``: at none; they are only written down."""
    reached: list[str] = field(default_factory=list)

    def reach(self, point: str, failure: type[BaseException]) -> None:
        """Write the point down.

        Raises:
            ProcessEnded, AnswerLost: it is the one.
        """
        self.reached.append(point)
        if len(self.reached) - 1 == self.fails_at:
            raise failure(f"A test lets this fail: {point}.")


@contextmanager
def watched(points: Points, *, with_senders: bool = True) -> Iterator[None]:
    """Let every protected view of this process go through the points."""
    with ExitStack() as stack:

        def replace(owner: Any, name: str, make: Callable[..., Any]) -> None:
            replaced = make(getattr(owner, name), points)
            stack.enter_context(patch.object(owner, name, replaced))

        for name in ("call", "write"):
            replace(Idempotency, name, _step)
            replace(Idempotency, f"a{name}", _async_step)
        for sender, name in senders() if with_senders else ():
            is_async = sender.__name__.startswith("Async")
            replace(sender, name, _async_sender if is_async else _sender)
        replace(protection, "outcome_of", _end)
        yield


def _lost(name: str) -> tuple[str, type[BaseException]]:
    return f"the answer to the call {name!r} was lost", AnswerLost


def _undone(name: str) -> tuple[str, type[BaseException]]:
    return f"the process ended before the write {name!r} was committed", ProcessEnded


def _before(name: str) -> tuple[str, type[BaseException]]:
    return f"the process ended before the step {name!r}", ProcessEnded


def _step(step: Callable[..., Any], points: Points) -> Callable[..., Any]:
    within = _lost if step.__name__ == "call" else _undone

    @wraps(step)
    def run(self: Any, name: str, fn: Callable[..., Any], **options: Any) -> Any:
        def failing(*args: Any) -> Any:
            result = fn(*args)
            points.reach(*within(name))
            return result

        points.reach(*_before(name))
        return step(self, name, failing, **options)

    return run


def _async_step(
    step: Callable[..., Awaitable[Any]], points: Points
) -> Callable[..., Awaitable[Any]]:
    is_call = step.__name__ == "acall"

    @wraps(step)
    async def run(self: Any, name: str, fn: Callable[..., Any], **options: Any) -> Any:
        async def failing_call(key: str) -> Any:
            result = await fn(key)
            points.reach(*_lost(name))
            return result

        def failing_write() -> Any:
            result = fn()
            points.reach(*_undone(name))
            return result

        points.reach(*_before(name))
        return await step(
            self, name, failing_call if is_call else failing_write, **options
        )

    return run


LOST_ON_THE_WIRE = "the answer to an outside call over HTTP was lost"


def _sender(send: Callable[..., Any], points: Points) -> Callable[..., Any]:
    @wraps(send)
    def run(*args: Any, **kwargs: Any) -> Any:
        response = send(*args, **kwargs)
        try:
            points.reach(LOST_ON_THE_WIRE, AnswerLost)
        except AnswerLost:
            response.close()
            raise
        return response

    return run


def _async_sender(
    send: Callable[..., Awaitable[Any]], points: Points
) -> Callable[..., Awaitable[Any]]:
    @wraps(send)
    async def run(*args: Any, **kwargs: Any) -> Any:
        response = await send(*args, **kwargs)
        try:
            points.reach(LOST_ON_THE_WIRE, AnswerLost)
        except AnswerLost:
            await response.aclose()
            raise
        return response

    return run


def _end(outcome_of: Callable[..., Any], points: Points) -> Callable[..., Any]:
    @wraps(outcome_of)
    def run(*args: Any, **kwargs: Any) -> Any:
        outcome = outcome_of(*args, **kwargs)
        points.reach(
            "the process ended before the view's answer was kept", ProcessEnded
        )
        return outcome

    return run
