"""One operation in the atomic shape: claim, run, keep or release.

It knows nothing of HTTP. What runs is a function that returns an `Outcome`; what comes
back is the outcome's value, or the decision that was taken instead of running.
"""

from __future__ import annotations

import logging
import time
import uuid
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Generic, TypeVar

from django.db import Error, transaction
from django.dispatch import Signal

from . import signals, store
from .claiming import Claiming
from .decisions import (
    Decision,
    Held,
    InFlight,
    Mismatch,
    Renew,
    Replay,
    RowView,
    Unreadable,
    Verdict,
    decide,
)
from .exceptions import BrokenTransaction, StoreUnavailable
from .gate import Gate
from .memory import Memory
from .models import IdempotencyRecord
from .operations import Operation, StoredAnswer
from .steps import RunningSteps, Steps
from .store import Claim

__all__ = [
    "Outcome",
    "Ran",
    "RecordClaiming",
    "Result",
    "answered",
    "report",
    "report_verdict",
    "run",
    "run_unkeyed",
]

logger = logging.getLogger("django_idempotency")

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[T]):
    """What the work came to."""

    value: T
    keep: bool
    """Whether its writes are committed; otherwise they are rolled back."""
    answer: StoredAnswer | None = None
    """What a repeat gets; needed for `keep` under a key.

    With ``keep=False`` it is kept in a transaction of its own, after the rollback.
    """
    claims_success: bool = False
    """Whether the caller will read the value as "done"."""
    failure: str | None = None
    """Noted on the released record: an exception's class, or nothing (``""``).

    ``None`` leaves no trace.
    """


@dataclass(frozen=True, slots=True)
class Ran(Generic[T]):
    """The work has run; this is its value."""

    value: T


Result = Ran[T] | Verdict
Work = Callable[[Steps], Outcome[T]]


def run(
    operation: Operation,
    work: Work[T],
    *,
    using: str,
    failure_of: Callable[[Exception], str | None],
) -> Result[T]:
    """Run `work` if the operation has not been done, in one transaction with its claim.

    `failure_of` says what to note on the released record when `work` raises.

    Raises:
        StoreUnavailable: the claim could not be tried; nothing has run.
        BrokenTransaction: the work claims success over a transaction that is broken.
        Exception: whatever `work` or the commit raised; nothing was kept.
    """
    attempt = _Attempt(operation, work, using)
    if attempt.joins_transaction:  # the copy would wait with what that has locked
        return _run(attempt, failure_of)
    with gate.passed(
        operation.record_id, operation.wait, attempt.prepare_to_wait
    ) as has_passed:
        if has_passed:
            return _run(attempt, failure_of)
    # The other one may be done already, and only busy with what comes after its commit.
    verdict = attempt.looked()
    if verdict is None or isinstance(verdict, Renew):
        verdict = InFlight()
    report_verdict(operation, verdict)
    return verdict


gate = Gate()
"""Of this process; copies in others are met in the database."""


def _run(
    attempt: _Attempt[T], failure_of: Callable[[Exception], str | None]
) -> Result[T]:
    operation, using = attempt.operation, attempt.using
    try:
        result = attempt.result_in_time()
    except Exception as error:
        # A callback after the commit can raise, too: then all is done and kept.
        if attempt.has_started and not attempt.is_committed:
            _release(operation, failure_of(error), using)
        raise
    attempt.finish()
    if not isinstance(result, Ran):
        report_verdict(operation, result)
    return result


def report_verdict(operation: Operation, verdict: Verdict) -> None:
    """Tell what was answered instead of running; a replay is told when it is sent."""
    match verdict:
        case InFlight():
            report("in_flight", operation)
        case Mismatch():
            report("mismatched", operation)
        case Held():
            logger.warning("idempotency held", extra=_log_fields("held", operation))
        case Unreadable():
            logger.error(
                "idempotency unreadable: the stored answer can't be read",
                extra=_log_fields("unreadable", operation),
            )
        case Replay():  # pragma: no branch - mypy proves there is no other
            pass


def run_unkeyed(work: Work[T], *, using: str) -> T:
    """Run `work` in a transaction, with the same rules and without a record."""
    with transaction.atomic(using=using):
        steps = RunningSteps.without_key()
        with steps.running():
            outcome = work(steps)
        if not outcome.keep or _is_broken(outcome, using):
            transaction.set_rollback(True, using=using)
    return outcome.value


class RecentIds:
    """The last ids that were added, and some before them.

    Two generations instead of an order, so that threads need no lock.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._new: set[uuid.UUID] = set()
        self._old: set[uuid.UUID] = set()

    def add(self, record_id: uuid.UUID) -> None:
        if len(self._new) >= self._size:
            self._old, self._new = self._new, set()
        self._new.add(record_id)

    def __contains__(self, record_id: uuid.UUID) -> bool:
        return record_id in self._new or record_id in self._old


answered = RecentIds(1000)
"""Records whose answer this process has seen: of these it asks before it claims."""


class RecordClaiming(Claiming[V, Verdict]):
    """One caller's way to a record."""

    def __init__(self, operation: Operation, using: str) -> None:
        super().__init__(using=using, wait=operation.wait)
        self.operation = operation
        self.memory = Memory()
        self.location: str | None = None
        """Where the row was at the last look."""

    def lock(self, wait: timedelta) -> None:
        store.lock(
            IdempotencyRecord,
            self.operation.record_id,
            using=self.using,
            wait=wait,
            location=self.location,
        )

    @property
    def expects_row(self) -> bool:
        return self.operation.record_id in answered

    def look(self) -> Decision | None:
        row = store.read(self.operation.record_id, using=self.using)
        self.location = None if row is None else row.location
        return self._decision(row)

    # By location, as in `at_row`: renewals of different keys would conflict otherwise.
    def look_again(self) -> Decision | None:
        record_id, location = self.operation.record_id, self.location
        return self._decision(store.read_locked(record_id, location, using=self.using))

    def _decision(self, row: RowView | None) -> Decision | None:
        operation = self.operation
        if row is None:
            return None
        decision = decide(operation, row, store.storable(str(operation.scope)))
        if isinstance(decision, Replay):
            answered.add(operation.record_id)
        return decision

    def renew(self) -> Claim:
        claim = self.take_over()
        # A leased try may have left some steps behind.
        effects = store.read_effects(claim, using=self.using)
        self.memory = Memory(effects)
        return claim

    @abstractmethod
    def take_over(self) -> Claim:
        """Make the locked record ours."""


class _Attempt(RecordClaiming[Ran[T]]):
    """One request's attempt at an operation."""

    def __init__(
        self, operation: Operation, work: Work[T], using: str, *, silent: bool = False
    ) -> None:
        super().__init__(operation, using)
        self.work = work
        self.silent = silent
        """The view has run already, in a transaction that was rolled back."""
        self.is_committed = False
        self.outcome: Outcome[T] | None = None
        self.is_kept = False

    def prepare_to_wait(self) -> None:
        """Hold nothing, and count the time, before it is this one's turn."""
        self.wait.start()
        store.give_connection_back(self.using)

    def result_in_time(self) -> Result[T]:
        """Wait as well for a lease, which somebody in the other shape has."""
        for pause in self.pauses():
            result = self.result()
            if not isinstance(result, InFlight) or result.retry_after is None:
                return result
            store.give_connection_back(self.using)
            time.sleep(pause)
        return self.result()

    def claim(self, wait: timedelta) -> Claim:
        return store.claim(self.operation, using=self.using, wait=wait)

    def take_over(self) -> Claim:
        return store.renew(self.operation, self.location, using=self.using)

    def run(self, claim: Claim) -> Ran[T]:
        # Before the view can register callbacks of its own, which may raise. In
        # somebody else's transaction it is their commit that keeps the answer.
        transaction.on_commit(self._committed, using=self.using, robust=True)
        steps = RunningSteps(self.operation, self.memory, self.using)
        with steps.running():
            self.outcome = self.work(steps)
        self.is_kept = self._settle(claim, self.outcome)
        return Ran(self.outcome.value)

    def finish(self) -> None:
        """After a rollback that was wanted: keep the error, or let the key go."""
        outcome = self.outcome
        if outcome is None or self.is_kept:
            return
        if outcome.answer is not None and not outcome.keep:
            _keep_alone(self.operation, outcome.answer, self.using)
        else:
            _release(self.operation, outcome.failure, self.using)

    def _settle(self, claim: Claim, outcome: Outcome[T]) -> bool:
        """Keep the answer or mark the transaction for rollback; say which."""
        answer = outcome.answer if outcome.keep else None
        if answer is not None and not _is_broken(outcome, self.using):
            if not self.silent:
                self.memory.require_all_asked_for()
            store.keep(claim, answer, using=self.using)
            return True
        transaction.set_rollback(True, using=self.using)
        return False

    def _committed(self) -> None:
        self.is_committed = True
        answered.add(self.operation.record_id)
        if not self.silent:
            report("claimed", self.operation)
        report("kept", self.operation)


BROKEN = (
    "The view answered below 400, but its transaction can only be rolled back: it "
    "swallowed a database error, or called set_rollback(True). Wrap the statement that "
    "may fail in its own atomic(), or return an error status."
)


def _is_broken(outcome: Outcome[T], using: str) -> bool:
    """Whether the work's transaction can't be committed.

    Raises:
        BrokenTransaction: if the work claims success all the same.
    """
    if not store.is_broken(using):
        return False
    if outcome.claims_success:
        raise BrokenTransaction(BROKEN)
    return True


def _keep_alone(operation: Operation, answer: StoredAnswer, using: str) -> None:
    """Keep the answer to a failure whose work has been rolled back.

    By a claim of its own, which doesn't wait: if a copy is running by now, its answer
    is the one to keep.
    """
    attempt = _Attempt(
        replace(operation, wait=timedelta(0)),
        lambda steps: Outcome(value=None, keep=True, answer=answer),
        using,
        silent=True,
    )
    report("claimed", operation)
    try:
        attempt.result()
    except (Error, StoreUnavailable):
        logger.warning("A failure's answer could not be kept.", exc_info=True)


def _release(operation: Operation, failure: str | None, using: str) -> None:
    if failure is not None:
        try:
            store.note_failure(operation, failure, using=using)
        except Error as error:
            logger.warning(
                "A failed attempt could not be noted: %s", type(error).__name__
            )
    report("claimed", operation)
    report("released", operation)


def report(action: str, operation: Operation) -> None:
    """Write one log line and send the signal of that name."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("idempotency %s", action, extra=_log_fields(action, operation))
    signal: Signal = getattr(signals, action)
    signal.send_robust(sender=IdempotencyRecord, operation=operation)


def _log_fields(action: str, operation: Operation) -> dict[str, str]:
    return {"action": action, "record_id": str(operation.record_id)}
