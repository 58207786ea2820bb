"""One operation in the leased shape: claim and commit, run, keep or release.

The view runs outside of any transaction of ours. Copies see the committed claim and
poll until it ends; no connection or lock is held meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar, cast

from django.db import Error, connections

from django_idempotency.core.decisions import Held, InFlight, Renew, Verdict
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import ClaimFailed, LeaseLost, OutcomeUnknown
from django_idempotency.store import rows
from django_idempotency.store.records import Lease
from django_idempotency.store.rows import Claim

from . import record_row
from .claiming import Claiming
from .links import Links
from .owner import Owner
from .record_row import RecordRow
from .reporting import report, report_verdict
from .steps import LeasedSteps, Steps
from .threads import in_thread, to_its_end
from .work import Outcome, Ran, Result

logger = logging.getLogger("django_idempotency")

T = TypeVar("T")

Started = LeasedSteps | Verdict

CANCELLED = "asyncio.exceptions.CancelledError"


def run(
    operation: Operation,
    work: Callable[[Steps], Outcome[T]],
    failure_of: Callable[[BaseException], str | None],
) -> Result[T]:
    """Run `work` if the operation has not been done, outside of any transaction.

    `failure_of` says what to note on the released record when `work` raises.

    Raises:
        StoreUnavailable: the claim could not be attempted; nothing has run.
        StepError: the steps are not those of an earlier attempt.
        RuntimeError: a transaction is open, so the claim could not be committed.
        BaseException: whatever `work` raised; the key is released.
    """
    attempt = _Attempt(operation)
    started = attempt.start()
    for pause in attempt.pauses():
        if not isinstance(started, InFlight):
            break
        time.sleep(pause)
        started = attempt.start_again()
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
    failure_of: Callable[[BaseException], str | None],
) -> Result[T]:
    """`run` for asynchronous work. If it is cancelled, the key is released."""
    attempt = _Attempt(operation)
    started = await _astart(attempt.start)
    for pause in attempt.pauses():
        if not isinstance(started, InFlight):
            break
        await asyncio.sleep(pause)
        started = await _astart(attempt.start_again)
    if not isinstance(started, LeasedSteps):
        return await in_thread(_answered, operation, started)
    try:
        outcome = await work(started)
        await started.at_rest()
        return await in_thread(_settle, started, outcome)
    except BaseException as error:
        # The key must not be free while a call is made that nobody awaits.
        with suppress(asyncio.CancelledError):
            await started.at_rest()
        verdict = await in_thread(_interrupted, started, error, failure_of)
        if verdict is None:
            raise
        return verdict


class _Attempt:
    """One attempt at an operation that claims it with a lease."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        length = cast(timedelta, operation.lease)
        self.lease = Lease(operation.record_id, operation.using, length)
        self.row = RecordRow(operation, self.lease)
        self.claiming = Claiming(self.row, operation.wait)
        self.may_give_back: bool | None = None
        """Known at the start, in the thread of this request's connections."""

    def pauses(self) -> Iterator[float]:
        return self.claiming.wait.pauses()

    def start(self, known: Renew | None = None) -> Started:
        """Claim and commit, or return the decision that prevents it."""
        if self.may_give_back is None:
            connection = connections[self.operation.using]
            self.may_give_back = rows.is_unused(connection)
        claimed = self.claiming.commit(known)
        if isinstance(claimed, Claim):
            operation = self.operation
            operation.course.start(took_over=self.row.has_unfinished)
            links = Links(
                operation.record_id,
                retention=operation.retention,
                using=operation.using,
            )
            owner = Owner(self.lease, self.row.journal, links)
            return LeasedSteps(operation, owner, may_give_back=self.may_give_back)
        if isinstance(claimed, InFlight):
            self._give_back()
        return claimed

    def start_again(self) -> Started:
        """Look first, which disturbs nobody else; claim if the row is free."""
        try:
            using = self.operation.using
            with (
                rows.claim_errors(using),
                rows.looking(connections[using], self.claiming.wait.left),
            ):
                decision = self.row.look()
        except ClaimFailed:
            return self.start()  # handles the same error again
        if decision is None or isinstance(decision, Renew):
            return self.start(decision)
        if isinstance(decision, InFlight):
            self._give_back()
        return decision

    def _give_back(self) -> None:
        if self.may_give_back:
            rows.give_connection_back(self.operation.using)


async def _astart(start: Callable[[], Started]) -> Started:
    """Start in the connection's thread; release the claim if cancelled meanwhile."""
    starting = asyncio.ensure_future(in_thread(start))
    try:
        return await to_its_end(starting)
    except asyncio.CancelledError:
        with suppress(Exception):  # cancelled, even if the claim succeeded
            if isinstance(started := starting.result(), LeasedSteps):
                await in_thread(_release, started, CANCELLED)
        raise


def _answered(operation: Operation, verdict: Verdict) -> Verdict:
    report_verdict(operation, verdict)
    return verdict


def _settle(steps: LeasedSteps, outcome: Outcome[T]) -> Result[T]:
    """Keep the answer, or release the key; the journal stays."""
    operation = steps.operation
    operation.course.end()
    is_kept = outcome.answer is not None and not steps.owner.is_held
    if outcome.answer is None or steps.owner.is_held:
        _release(steps, outcome.failure)
    else:
        steps.journal.require_all_asked_for()
        steps.owner.keep(outcome.answer)
        record_row.answered.add(operation.record_id)
        report("claimed", operation)
        report("kept", operation)
    return Ran(
        outcome.value, outcome.is_final and not steps.owner.is_held, is_kept=is_kept
    )


def _interrupted(
    steps: LeasedSteps,
    error: BaseException,
    failure_of: Callable[[BaseException], str | None],
) -> Verdict | None:
    """Release the key; return the verdict for an error of ours, else ``None``."""
    operation = steps.operation
    operation.course.end()
    match error:
        case LeaseLost():
            logger.warning("idempotency lease lost", exc_info=error)
            return _answered(operation, InFlight())
        # Else it is that of a task in the work, and nobody would find this one held.
        case OutcomeUnknown() if steps.owner.is_held:
            _release(steps, failure_of(error), error)
            return _answered(operation, Held())
        case _:
            _release(steps, failure_of(error))
            return None


def _release(
    steps: LeasedSteps, failure: str | None, error: BaseException | None = None
) -> None:
    """Free the key at once; if that fails, the lease ends by itself.

    With an `OutcomeUnknown`, whoever answers it says that the operation is held.
    """
    owner = steps.owner
    if owner.is_over:  # cancelled, or interrupted, after the end
        return
    operation = steps.operation
    try:
        owner.release(failure)
        is_free = not owner.is_held
    except LeaseLost:
        logger.warning("idempotency lease lost before it was released")
        return
    except Error as trouble:
        logger.warning("A lease could not be released: %s", type(trouble).__name__)
        is_free = False
    report("claimed", operation)
    if is_free:
        report("released", operation)
    elif owner.is_held and not isinstance(error, OutcomeUnknown):
        report("held", operation)
