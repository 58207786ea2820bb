"""One operation in the leased shape: claim and commit, run, keep or release.

The view runs outside of any transaction of ours. Others see the claim, and wait for its
end by looking; nothing is held meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar, cast

from django.db import Error

from . import store
from .decisions import Held, InFlight, Renew, Verdict
from .engine import (
    Outcome,
    Ran,
    RecordClaiming,
    Result,
    answered,
    report,
    report_verdict,
)
from .exceptions import ClaimFailed, LeaseLost, OutcomeUnknown
from .operations import Operation
from .steps import LeasedSteps, Steps, in_thread
from .store import Claim, Lease

__all__ = ["arun", "run"]

logger = logging.getLogger("django_idempotency")

T = TypeVar("T")

Started = LeasedSteps | Verdict

CANCELLED = "asyncio.exceptions.CancelledError"


def run(
    operation: Operation,
    work: Callable[[Steps], Outcome[T]],
    *,
    using: str,
    failure_of: Callable[[BaseException], str | None],
) -> Result[T]:
    """Run `work` if the operation has not been done, outside of any transaction.

    `failure_of` says what to note on the released record when `work` raises.

    Raises:
        StoreUnavailable: the claim could not be tried; nothing has run.
        StepError: the steps are not those of an earlier try.
        RuntimeError: a transaction is open, which the claim would wait in.
        BaseException: whatever `work` raised; the key is released.
    """
    leasing = _Leasing(operation, using)
    started = leasing.start()
    for pause in leasing.pauses():
        if not isinstance(started, InFlight):
            break
        time.sleep(pause)
        started = leasing.start_again()
    if not isinstance(started, LeasedSteps):
        return _answered(operation, started)
    try:
        return _settle(started, work(started))
    except BaseException as error:
        if (verdict := _interrupted(started, error, failure_of)) is None:
            raise
        return verdict


async def arun(
    operation: Operation,
    work: Callable[[Steps], Awaitable[Outcome[T]]],
    *,
    using: str,
    failure_of: Callable[[BaseException], str | None],
) -> Result[T]:
    """`run` for asynchronous work; whenever it is cancelled, the key is released."""
    leasing = _Leasing(operation, using)
    started = await _astart(leasing.start)
    for pause in leasing.pauses():
        if not isinstance(started, InFlight):
            break
        await asyncio.sleep(pause)
        started = await _astart(leasing.start_again)
    if not isinstance(started, LeasedSteps):
        return await in_thread(_answered, operation, started)
    try:
        outcome = await work(started)
        return await in_thread(_settle, started, outcome)
    except BaseException as error:
        verdict = await in_thread(_interrupted, started, error, failure_of)
        if verdict is None:
            raise
        return verdict


class _Leasing(RecordClaiming[LeasedSteps]):
    """One caller's way to a lease."""

    durable = True

    def __init__(self, operation: Operation, using: str) -> None:
        super().__init__(operation, using)
        self.lease = Lease(operation.record_id, cast(timedelta, operation.lease))

    def claim(self, wait: timedelta) -> Claim:
        return store.claim_leased(
            self.operation, self.lease, using=self.using, wait=wait
        )

    def take_over(self) -> Claim:
        return store.take_over(
            self.operation, self.lease, self.location, using=self.using
        )

    def run(self, claim: Claim) -> LeasedSteps:
        return LeasedSteps(self.operation, self.lease, self.memory, self.using)

    def start(self) -> Started:
        """Claim and commit, or return what stands in the way."""
        started = self.result()
        if isinstance(started, InFlight):
            store.give_connection_back(self.using)
        return started

    def start_again(self) -> Started:
        """Look first, since looking costs others nothing; claim if the row is free."""
        try:
            with store.claim_errors(self.using):
                decision = self.look()
        except ClaimFailed:
            return self.start()  # which knows what to do about it
        if isinstance(decision, InFlight):
            store.give_connection_back(self.using)
            return decision
        if decision is None or isinstance(decision, Renew):
            return self.start()
        return decision


async def _astart(start: Callable[[], Started]) -> Started:
    """Start in the thread of the connection; a claim is not left behind."""
    starting = asyncio.ensure_future(in_thread(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with suppress(Exception):  # it is cancelled, whatever the claim came to
            started = await starting
            if isinstance(started, LeasedSteps):
                await in_thread(_release, started, CANCELLED)
        raise


def _answered(operation: Operation, verdict: Verdict) -> Verdict:
    report_verdict(operation, verdict)
    return verdict


def _settle(steps: LeasedSteps, outcome: Outcome[T]) -> Result[T]:
    """Keep the answer, or release the key with the memory of its steps."""
    operation = steps.operation
    if outcome.answer is None or steps.is_held:
        _release(steps, outcome.failure)
    else:
        steps.memory.require_all_asked_for()
        steps.keep(outcome.answer)
        answered.add(operation.record_id)
        report("claimed", operation)
        report("kept", operation)
    return Ran(outcome.value)


def _interrupted(
    steps: LeasedSteps,
    error: BaseException,
    failure_of: Callable[[BaseException], str | None],
) -> Verdict | None:
    """Release, and answer what is our own affair; ``None``: the error goes on."""
    operation = steps.operation
    match error:
        case LeaseLost():
            logger.warning("idempotency lease lost", exc_info=error)
            return _answered(operation, InFlight())
        case OutcomeUnknown():
            _release(steps, failure_of(error))
            return _answered(operation, Held())
        case _:
            _release(steps, failure_of(error))
            return None


def _release(steps: LeasedSteps, failure: str | None) -> None:
    """Free the key at once; if that fails, the lease ends by itself."""
    if steps.is_over:  # cancelled, or interrupted, after the end
        return
    operation = steps.operation
    try:
        steps.release(failure)
        is_free = not steps.is_held
    except LeaseLost:
        logger.warning("idempotency lease lost before it was released")
        return
    except Error as error:
        logger.warning("A lease could not be released: %s", type(error).__name__)
        is_free = False
    report("claimed", operation)
    if is_free:
        report("released", operation)
