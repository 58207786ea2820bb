from __future__ import annotations

from django.db.transaction import TransactionManagementError

__all__ = ["BrokenTransaction", "InvalidKey", "StoreUnavailable"]


class InvalidKey(ValueError):
    """The client's key can't be used as it was sent.

    The message is a sentence for the client: it says what is wrong and never holds
    the key itself. Answered with 400 ``key-invalid``; nothing has been queried.
    """


class BrokenTransaction(TransactionManagementError):
    """The view reported success, but its transaction can only be rolled back.

    Usually the view swallowed a database error, or called ``set_rollback(True)``, and
    then returned an answer below 400. Keeping that answer would promise work that the
    database has thrown away. The key is free again. Don't catch it: let the error
    leave the view, wrap the risky statement in its own ``atomic()``, or return an
    error status.
    """


class ClaimFailed(Exception):
    """The operation has not been claimed; the view has not run."""


class StoreUnavailable(ClaimFailed):
    """The claim could not even be tried: the database is unreachable or read-only.

    Answered with 503 ``store-unavailable``. The view has not run.
    """

    def __init__(self, *, is_disconnect: bool) -> None:
        super().__init__("The claim could not be tried.")
        self.is_disconnect = is_disconnect


class ClaimConflict(ClaimFailed):
    """Somebody else's row stands in the way; roll back, read it and decide."""


class ClaimOutrun(ClaimConflict):
    """The database refused the claim (serialization failure, deadlock)."""


class ClaimTimedOut(ClaimFailed):
    """The wait for an operation in flight is over."""
