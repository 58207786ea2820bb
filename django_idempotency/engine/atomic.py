"""One operation in the atomic shape: claim, run, keep or release in one transaction.

It knows nothing of HTTP. What runs is a function that returns an `Outcome`; what comes
back is the outcome's value, or the decision that was taken instead of running.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, TypeVar, cast

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.decisions import InFlight, Renew
from django_idempotency.core.operations import Operation, StoredAnswer
from django_idempotency.exceptions import BrokenTransaction, StoreBusy, StoreUnavailable
from django_idempotency.store import records, rows
from django_idempotency.store.rows import Claim

from . import record_row
from .claiming import Claiming
from .gate import Gate
from .record_row import RecordRow
from .reporting import report, report_verdict
from .steps import RunningSteps, Steps
from .work import Outcome, Ran, Result, Work

logger = logging.getLogger("django_idempotency")

T = TypeVar("T")

gate = Gate()
"""For copies in this process; copies in other processes wait in the database."""


def run(
    operation: Operation, work: Work[T], failure_of: Callable[[Exception], str | None]
) -> Result[T]:
    """Run `work` if the operation has not been done, in one transaction with its claim.

    `failure_of` says what to note on the released record when `work` raises.

    Raises:
        StoreUnavailable: the claim could not be attempted; nothing has run.
        BrokenTransaction: the work reports success, but its transaction is broken.
        Exception: whatever `work` or the commit raised; nothing was kept.
    """
    attempt = _Attempt(operation, work)
    claiming = attempt.claiming
    # A caller that is inside a transaction of its own must not wait at the gate: it may
    # hold locks that the copy which has passed the gate is waiting for.
    if attempt.is_nested:
        return _run(attempt, failure_of)
    with gate.passed(attempt.place, operation.wait, claiming.wait.start) as has_passed:
        if has_passed:
            return _run(attempt, failure_of)
    # The copy that has passed may have committed already and be busy afterwards.
    try:
        verdict = claiming.looked()
    except StoreBusy:  # perhaps by that copy
        verdict = None
    if verdict is None or isinstance(verdict, Renew):
        verdict = InFlight()
    report_verdict(operation, verdict)
    return verdict


def run_unkeyed(work: Work[T]) -> T:
    """Run `work` in a transaction, with the same rules and without a record."""
    using = records.record_alias()
    with transaction.atomic(using=using):
        steps = RunningSteps.without_key()
        connection = connections[using]
        with steps, rows.watched(connection):
            outcome = work(steps)
        if not outcome.commits or _is_broken(outcome, connection):
            transaction.set_rollback(True, using=using)
    return outcome.value


def _run(
    attempt: _Attempt[T], failure_of: Callable[[Exception], str | None]
) -> Result[T]:
    try:
        result = attempt.result_in_time()
    except Exception as error:
        # If it was a callback after the commit that raised, the answer is kept.
        if attempt.claiming.has_started and not attempt.claiming.is_committed:
            attempt.release(failure_of(error))
        raise
    if not isinstance(result, Ran):
        attempt.operation.course.end()  # see Note [Looking again]
        report_verdict(attempt.operation, result)
        return result
    attempt.finish()
    return replace(result, is_kept=attempt.is_kept)


class _Attempt(Generic[T]):
    """One attempt at an operation."""

    def __init__(
        self, operation: Operation, work: Work[T], *, silent: bool = False
    ) -> None:
        self.operation = operation
        self.work = work
        connection = connections[operation.using]
        self.is_nested = connection.in_atomic_block
        self.row = RecordRow(operation, is_nested=self.is_nested)
        self.claiming = Claiming(self.row, operation.wait)
        self.silent = silent
        """Report nothing: this only keeps the answer of a view that has run before."""
        self.place = rows.place_of(operation.record_id, connection)
        self.may_give_back = rows.is_unused(connection)
        self.outcome: Outcome[T] | None = None
        self.is_settled = False
        """Whether the transaction holds the end of the operation, kept or released."""
        self.is_kept = False
        """Whether a repeat gets the answer."""

    def result_in_time(self) -> Result[T]:
        """Like `result()`, but also wait for a lease of the same operation to end."""
        pauses = self.claiming.wait.pauses()
        while True:
            result = self.result()
            if not isinstance(result, InFlight) or result.retry_after is None:
                return result
            if self.claiming.has_started:  # see Note [Looking again]
                return result
            if (pause := next(pauses, None)) is None:
                return result
            if self.may_give_back:
                rows.give_connection_back(self.operation.using)
            time.sleep(pause)

    def result(self) -> Result[T]:
        return self.claiming.run(self._run, self._committed)

    def finish(self) -> None:
        """After a deliberate rollback, keep the error's answer or release the key."""
        outcome = self.outcome
        if outcome is None:
            return
        if self.is_settled:
            self.is_kept = outcome.answer is not None
            return
        to_keep = outcome.answer is not None and not outcome.commits
        if to_keep and self._is_in_place():
            answer = cast(StoredAnswer, outcome.answer)
            self.is_kept = _keep_alone(self.operation, answer)
        else:
            self.release(outcome.failure)

    def release(self, failure: str | None) -> None:
        """After a rollback, note the failure, if there is one to note."""
        self.operation.course.end()
        if failure is not None and self._is_in_place():
            try:
                records.note_failure(self.operation, failure)
            except Error as error:
                logger.warning(
                    "A failed attempt could not be noted: %s", type(error).__name__
                )
        report("claimed", self.operation)
        report("released", self.operation)

    def _is_in_place(self) -> bool:
        """Whether the view hasn't left the connection in another tenant's schema."""
        connection = connections[self.operation.using]
        return rows.place_of(self.operation.record_id, connection) == self.place

    def _run(self, claim: Claim) -> Ran[T]:
        steps = RunningSteps(self.operation, self.row.journal, claim.using)
        if not self.silent:
            self.operation.course.start(took_over=self.row.has_unfinished)
        with steps, rows.watched(claim.connection):
            self.outcome = self.work(steps)
        self.operation.course.end()
        self.is_settled = self._settle(claim, self.outcome, steps)
        return Ran(self.outcome.value, self.outcome.is_final)

    def _settle(self, claim: Claim, outcome: Outcome[T], steps: Steps) -> bool:
        """End the operation, or mark the transaction for rollback; return which."""
        if not outcome.commits or _is_broken(outcome, claim.connection):
            transaction.set_rollback(True, using=claim.using)
            return False
        if outcome.answer is None:
            records.release(claim, outcome.failure)
            return True
        if not self.silent:
            self.row.journal.require_all_asked_for()
        records.keep(claim, outcome.answer)
        steps.links.store()
        return True

    def _committed(self) -> None:
        if not self.silent:
            report("claimed", self.operation)
        if self.outcome is not None and self.outcome.answer is None:
            report("released", self.operation)
            return
        record_row.answered.add(self.operation.record_id)
        report("kept", self.operation)


BROKEN = (
    "The view answered below 400, but its transaction can only be rolled back: it "
    "swallowed a database error, or called set_rollback(True). Wrap the statement that "
    "may fail in its own atomic(), or return an error status."
)


def _is_broken(outcome: Outcome[T], connection: BaseDatabaseWrapper) -> bool:
    """Whether the work's transaction can't be committed.

    Raises:
        BrokenTransaction: if the work reports success all the same.
    """
    if not rows.is_broken(connection):
        return False
    if outcome.claims_success:
        raise BrokenTransaction(BROKEN)
    return True


def _keep_alone(operation: Operation, answer: StoredAnswer) -> bool:
    """Keep the answer to a failure whose work has been rolled back; return if it is.

    It is stored with a claim of its own, which doesn't wait for another: if a copy is
    running by now, that copy's answer is kept instead.
    """
    attempt = _Attempt(
        # Nor is it in anybody's way, or anybody in its way, who asks for the same.
        replace(operation, wait=rows.brief_wait(operation.using), intent=None),
        lambda steps: Outcome(value=None, commits=True, answer=answer),
        silent=True,
    )
    report("claimed", operation)
    try:
        return isinstance(attempt.result(), Ran)
    except StoreBusy:  # pragma: no cover - SQLite
        logger.warning("A failure's answer could not be kept: the database is busy.")
    except (Error, StoreUnavailable):
        logger.warning("A failure's answer could not be kept.", exc_info=True)
    return False
