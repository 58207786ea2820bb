from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db.transaction import TransactionManagementError

__all__ = [
    "AnswerExpired",
    "BrokenTransaction",
    "CallRefused",
    "InvalidKey",
    "KeyReused",
    "LeaseLost",
    "NoOperation",
    "OperationInFlight",
    "OutcomeUnknown",
    "StepError",
    "StoreUnavailable",
    "TransactionLost",
    "Undecodable",
    "UnkeyedOutsideCall",
]


class Portable(Exception):
    """Can be pickled, whatever it is made of: queues hand errors from process to process.

    An exception is otherwise made anew from its message alone.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_anew, (type(self), self.args), vars(self)


def _made_anew(error_type: type[Portable], args: tuple[Any, ...]) -> Portable:
    return error_type.__new__(error_type, *args)


class InvalidKey(ValueError):
    """The client's key can't be used as it was sent.

    The message is written for the client: it says what is wrong and never contains
    the key itself. Answered with 400 ``key-invalid``; no query has been made.
    """


class KeyOfAnother(InvalidKey):
    """A guest has sent the key of a page that was made for another browser.

    Usually a cache has shown one page, or a part of it, to several people. Answered with
    400 ``key-foreign``; no query has been made.
    """


class BrokenTransaction(TransactionManagementError):
    """The view reported success, but its transaction can only be rolled back.

    Usually the view swallowed a database error, or called ``set_rollback(True)``, and
    then returned an answer below 400. Keeping that answer would promise work that the
    database has thrown away. The key is free again. Don't catch it: let the error
    leave the view, wrap the risky statement in its own ``atomic()``, or return an
    error status.
    """


class TransactionLost(TransactionManagementError):
    """The work has ended the transaction in which it was claimed, or was about to.

    By a COMMIT or ROLLBACK of its own, by a statement that implies one, as many do on
    MariaDB, or by an error that rolls everything back and was swallowed. What came after
    would be kept without what came before, or twice. A statement that does it is not
    sent, and nothing is lost. Where it happened out of sight, nothing of this
    transaction is kept, the client gets 500, and if something was committed before, the
    operation waits for a person.
    """


class ClaimFailed(Exception):
    """The operation was not claimed, so the view has not run."""


class StoreUnavailable(Portable, ClaimFailed):
    """The claim could not be attempted: the database is unreachable, read-only or busy.

    Answered with 503 ``store-unavailable``. The view has not run.
    """

    def __init__(self, *, is_disconnect: bool) -> None:
        super().__init__("The claim could not be attempted.")
        self.is_disconnect = is_disconnect


class StoreBusy(StoreUnavailable):
    """Somebody writes to a database that has one lock for all keys."""

    def __init__(self) -> None:
        super().__init__(is_disconnect=False)


class AnsweredElsewhere(Exception):
    """Nothing runs: the store that a project moves away from knows the key.

    Caught by whoever has asked; see Note [Two stores at once].
    """

    def __init__(self, verdict: Any) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class ClaimConflict(ClaimFailed):
    """Another request's row is already there; roll back, read it and decide."""


class ClaimOutrun(ClaimConflict):
    """The database refused the claim (serialization failure, deadlock)."""


class ClaimBusy(ClaimFailed):
    """Another session locks the row or is inserting it; the claim has not waited yet."""


class ClaimTimedOut(ClaimFailed):
    """The wait for an operation in flight ran out."""


class LeaseLost(Exception):
    """The lease was over: another request has the operation, or may take it over.

    Raised by the steps and by `extend()` of the late owner. What the step wrote is
    rolled back, and no call begins when the lease is over, even if nobody has taken
    the operation over by then. Don't catch it: the client is answered 409
    ``in-flight``, and its retry gets the answer of the new owner.
    """


class NoOperation(LookupError):
    """`current_operation()` was called where none is running.

    Usually in a thread that the work has started, or outside of any protected view,
    webhook handler or task. Nothing was done.
    """


class AnswerExpired(LookupError):
    """A task was done under this key, so long ago that its result isn't kept any more.

    A view is answered 409 ``answer-expired`` for the same. Nothing was done: with a
    tombstone, a key stays taken for longer than its result is there.
    """


class KeyReused(ValueError):
    """A task was called under a key that it was called under with other arguments.

    A view is answered 422 ``key-reused`` for the same. Nothing was done: the key has to
    name all that tells one piece of work from another.
    """


class OperationInFlight(Portable):
    """Another copy of a task is running under the same key; it may still fail.

    A queue should deliver the task again. `retry_after` is how long the other copy may
    still take at most, where that is known.
    """

    def __init__(self, *, retry_after: timedelta | None = None) -> None:
        super().__init__("Another copy is running under this key.")
        self.retry_after = retry_after


class OutcomeUnknown(Exception):
    """Nobody knows whether a call with ``if_unknown="hold"`` has happened.

    Answered with 409 ``outcome-unknown`` until a person settles the operation.
    """


class CallRefused(Exception):
    """The other side has refused a call: one of its `refused` errors was raised.

    That is an outcome. In the leased shape it is remembered, so that a retry gets an
    equal error and nobody is asked again; the other side's own error is the `__cause__`
    of the first one only. Catch it and answer, or let it leave the view: the client gets
    402 ``call-refused``, and the work is rolled back.
    """

    def __init__(self, step: str, error: str, message: str) -> None:
        super().__init__(step, error, message)
        self.step = step
        """The name of the call."""
        self.error = error
        """The dotted name of the error's class."""
        self.message = message
        """What the error said, at most 500 characters."""

    def __str__(self) -> str:
        return f"The call {self.step!r} was refused: {self.error}: {self.message}"


class StepError(RuntimeError):
    """The steps of an operation are ambiguous, or differ from its first attempt.

    A name was used twice, another step came in place of a remembered one, a finished
    step was not asked for again, two were asked for at the same time, or a step was
    begun after one whose outcome is unknown. No step gets another one's result: the key is released, and what the steps
    came to stays in the record.
    """


class Undecodable(ValueError):
    """`IDEMPOTENCY_BODY_CODEC` can't decode what is stored, or isn't set any more.

    Raised where you read it, by `IdempotencyRecord.body` and `ProcessedEvent.body`.
    Nothing runs because of it: a repeat is refused, and an event waits.
    """


class UnkeyedOutsideCall(RuntimeError):
    """An outside call inside an atomic operation that a retry would simply repeat.

    Raised only with ``IDEMPOTENCY_OUTSIDE_CALLS = "raise"``, for development and tests.
    """


def name_of(error: BaseException) -> str:
    """Return the dotted name of the error's class; nothing else of it is ever stored."""
    return f"{type(error).__module__}.{type(error).__qualname__}"
