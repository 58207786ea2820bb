"""Run an operation in the shape that it asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from django_idempotency.core.operations import Operation

from . import atomic, leased
from .idempotency import Confined
from .steps import RunningSteps, Steps
from .work import Outcome, Result, Work

T = TypeVar("T")


def run(
    operation: Operation,
    work: Work[T],
    failure_of: Callable[[BaseException], str | None],
) -> Result[T]:
    """Run `work` if the operation has not been done.

    `failure_of` says what to note on the released record when `work` raises.

    Raises:
        StoreUnavailable: the claim could not be attempted; nothing has run.
        BaseException: whatever `work` or the commit raised; nothing was kept.
    """
    with Confined():
        if operation.lease is None:
            return atomic.run(operation, work, failure_of)
        return leased.run(operation, work, failure_of)


async def arun(
    operation: Operation,
    work: Callable[[Steps], Awaitable[Outcome[T]]],
    failure_of: Callable[[BaseException], str | None],
) -> Result[T]:
    """`run` for asynchronous work; only the leased shape can do it."""
    with Confined():
        return await leased.arun(operation, work, failure_of)


def run_unkeyed(work: Work[T], *, in_transaction: bool) -> T:
    """Run `work` without a record: no key was sent, and none is required."""
    with Confined():
        if in_transaction:
            return atomic.run_unkeyed(work)
        return work(RunningSteps.without_key()).value
