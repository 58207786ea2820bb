"""Being the first to ask for something: claimed together with the record.

Always after it, and in its transaction, so that both are committed or neither, and so
that nobody who holds an intent waits for a record.
"""

from __future__ import annotations

import time
import uuid
from datetime import timedelta

from django_idempotency.core.decisions import Duplicate, InFlight
from django_idempotency.core.intents import Free, decide_intent
from django_idempotency.core.operations import Intent, Operation
from django_idempotency.exceptions import ClaimBusy, ClaimConflict
from django_idempotency.store import intents


class Precedence:
    """Whether an operation is the first of its kind, and how it becomes that."""

    def __init__(self, operation: Operation, intent: Intent) -> None:
        self._operation = operation
        self._intent = intent
        self._exists = False
        """Whether there is a row; only a guess, as `Row.is_expected`."""
        self._confirmed_id: uuid.UUID | None = None
        """The record of the one beside which this one is meant."""
        self.is_waited_for = False
        """Whether somebody is about to be the first, and this database has to be asked
        again: MariaDB's locks on the record would keep others waiting meanwhile."""

    def look(self) -> Duplicate | InFlight | None:
        """Return what is in the way, by what is committed."""
        ids = intents.read(self._operation)
        self._exists = ids is not None
        if ids is None:
            return None
        using = self._operation.using
        views = (intents.read_first(each, using=using) for each in ids)
        verdict = decide_intent(self._operation, self._intent, *views)
        match verdict:
            case Free(confirmed_id):
                self._confirmed_id = confirmed_id
                return None
            case Duplicate(first_id, age):
                about = intents.label_of(first_id, using=using)
                return Duplicate(first_id, age, about)
            case InFlight():
                return verdict

    def claim(self, deadline: float) -> None:
        """Become the first, in the transaction that has claimed the record.

        Raises:
            ClaimConflict: somebody may be in the way; look.
            ClaimBusy: somebody is about to be; wait by looking.
        """
        wait = timedelta(seconds=max(0.0, deadline - time.monotonic()))
        self.is_waited_for = False
        if not self._exists:
            try:
                intents.claim(self._operation, wait=wait)
            except ClaimBusy:  # pragma: no cover - MariaDB
                self.is_waited_for = True
                raise
            return
        intents.lock_row(self._operation, wait=wait)
        is_free = self.look() is None
        if not is_free or not intents.renew(self._operation, self._confirmed_id):
            raise ClaimConflict
