"""One operation in the atomic shape: claim, run, keep or release.

It knows nothing of HTTP. What runs is a function that returns an `Outcome`; what comes
back is the outcome's value, or the decision that was taken instead of running.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Generic, TypeVar

from django.db import Error, connections, transaction
from django.dispatch import Signal

from . import signals, store
from .decisions import (
    Decision,
    Held,
    InFlight,
    Mismatch,
    Renew,
    Replay,
    Unreadable,
    decide,
)
from .exceptions import (
    BrokenTransaction,
    ClaimConflict,
    ClaimFailed,
    ClaimOutrun,
    ClaimTimedOut,
    StoreUnavailable,
)
from .models import IdempotencyRecord
from .operations import Operation, StoredAnswer
from .store import Claim

__all__ = ["Outcome", "Ran", "Result", "report", "run", "run_unkeyed"]

logger = logging.getLogger("django_idempotency")

T = TypeVar("T")

SHORTEST_LATENESS = timedelta(seconds=1)
"""A claim that took less was slowed down by the database, not by a failing leader."""


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


Result = Ran[T] | Replay | InFlight | Mismatch | Held | Unreadable
Work = Callable[[], Outcome[T]]


class _Wait:
    """How long one request may still wait, through any number of leaders."""

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._started: float | None = None

    def start(self) -> None:
        """Begin to count, once; waiting for a free connection is nobody's fault."""
        if self._started is None:
            self._started = time.monotonic()

    @property
    def left(self) -> timedelta:
        return max(timedelta(0), self._limit - self._elapsed)

    @property
    def is_late(self) -> bool:
        """Whether even a claim in hand has to be given back.

        The database's own limit starts anew with each leader, so a copy behind several
        that fail one after the other can get the claim long after its wait.
        """
        return self._elapsed > max(self._limit, SHORTEST_LATENESS)

    @property
    def _elapsed(self) -> timedelta:
        if self._started is None:
            return timedelta(0)
        return timedelta(seconds=time.monotonic() - self._started)


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
    try:
        result = attempt.result()
    except Exception as error:
        # A callback after the commit can raise, too: then all is done and kept.
        if attempt.has_started and not attempt.is_committed:
            _release(operation, failure_of(error), using)
        raise
    match result:
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
        case Ran() | Replay():  # pragma: no branch - mypy proves there is no other
            pass
    return result


def run_unkeyed(work: Work[T], *, using: str) -> T:
    """Run `work` in a transaction, with the same rules and without a record."""
    with transaction.atomic(using=using):
        outcome = work()
        if not outcome.keep or _is_broken(outcome, using):
            transaction.set_rollback(True, using=using)
    return outcome.value


class _Attempt(Generic[T]):
    """One request's way to the claim, through conflicts and failing leaders."""

    def __init__(
        self, operation: Operation, work: Work[T], using: str, *, silent: bool = False
    ) -> None:
        self.operation = operation
        self.work = work
        self.using = using
        self.silent = silent
        """The view has run already, in a transaction that was rolled back."""
        self.wait = _Wait(operation.wait)
        self.has_started = False
        self.is_committed = False
        self.joins_transaction = connections[using].in_atomic_block
        # The connection may have died while nobody used it.
        self.may_reconnect = not self.joins_transaction

    def result(self) -> Result[T]:
        decision: Decision | None = None
        while True:
            try:
                return self._run_claimed(row_exists=isinstance(decision, Renew))
            except ClaimFailed as failure:
                if self.has_started:  # then it is the work's own affair
                    raise
                decision = self._decision_after(failure)
            if decision is not None and not isinstance(decision, Renew):
                return decision
            if self.wait.is_late:
                return InFlight()

    def _decision_after(self, failure: ClaimFailed) -> Decision | None:
        """Return what the row in the way says; ``None``: try to claim again."""
        match failure:
            case ClaimTimedOut():
                return InFlight()
            case ClaimOutrun():
                # In a transaction that isn't ours the winner is outside the snapshot.
                return InFlight() if self.joins_transaction else None
            case StoreUnavailable():
                if not (self.may_reconnect and failure.is_disconnect):
                    raise failure
                self.may_reconnect = False
                connections[self.using].close()
                return None
            case _:  # a committed row
                try:
                    with store.claim_errors(self.using):
                        return self._decision()
                except ClaimFailed as another:
                    return self._decision_after(another)

    def _run_claimed(self, *, row_exists: bool) -> Ran[T]:
        with store.claim_errors(self.using):
            connections[self.using].ensure_connection()
        self.wait.start()
        wait = self.wait.left
        with ExitStack() as stack:
            with store.claim_errors(self.using), store.opened(self.using, wait):
                stack.enter_context(transaction.atomic(using=self.using))
                if row_exists:
                    claim = self._renewed(wait)
                else:
                    claim = store.claim(self.operation, using=self.using, wait=wait)
            if self.wait.is_late:
                raise ClaimTimedOut
            self.has_started = True
            # Before the view can register callbacks of its own, which may raise. In
            # somebody else's transaction it is their commit that keeps the answer.
            transaction.on_commit(self._committed, using=self.using, robust=True)
            outcome = self.work()
            kept = self._settle(claim, outcome)
        if outcome.answer is not None and not outcome.keep:
            _keep_alone(self.operation, outcome.answer, self.using)
        elif not kept:
            _release(self.operation, outcome.failure, self.using)
        return Ran(outcome.value)

    def _renewed(self, wait: timedelta) -> Claim:
        """Lock the row, look again, and make it ours if it is still free."""
        store.lock(self.operation.record_id, using=self.using, wait=wait)
        if not isinstance(self._decision(), Renew):
            raise ClaimConflict
        return store.renew(self.operation, using=self.using)

    def _decision(self) -> Decision | None:
        row = store.read(self.operation.record_id, using=self.using)
        if row is None:
            return None
        return decide(self.operation, row, store.storable(str(self.operation.scope)))

    def _settle(self, claim: Claim, outcome: Outcome[T]) -> bool:
        """Keep the answer or mark the transaction for rollback; say which."""
        answer = outcome.answer if outcome.keep else None
        if answer is not None and not _is_broken(outcome, self.using):
            store.keep(claim, answer, using=self.using)
            return True
        transaction.set_rollback(True, using=self.using)
        return False

    def _committed(self) -> None:
        self.is_committed = True
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
    if not (connections[using].needs_rollback or store.is_aborted(using)):
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
        lambda: Outcome(value=None, keep=True, answer=answer),
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
    logger.info("idempotency %s", action, extra=_log_fields(action, operation))
    signal: Signal = getattr(signals, action)
    signal.send_robust(sender=IdempotencyRecord, operation=operation)


def _log_fields(action: str, operation: Operation) -> dict[str, str]:
    return {"action": action, "record_id": str(operation.record_id)}
