"""The `Row` of an operation, and the ids that this process has answered."""

from __future__ import annotations

import time
import uuid
from datetime import timedelta
from functools import cached_property

from django_idempotency.core.decisions import (
    Decision,
    Held,
    InFlight,
    RecordState,
    Renew,
    Replay,
    RowView,
    Verdict,
    decide,
)
from django_idempotency.core.journal import Journal
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import ClaimConflict, Undecodable
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import records, rows
from django_idempotency.store.records import Lease
from django_idempotency.store.rows import Claim

from . import words
from .claiming import Row
from .intents import Precedence
from .reporting import report_lost, report_undecodable


class RecentIds:
    """Remembers the most recent ids.

    Kept as two generations instead of in order, so that threads need no lock.
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
"""Records whose answer this process has seen: it looks before it claims these."""


class RecordRow(Row[Verdict]):
    """The record of an operation, claimed for one transaction or with a lease.

    `take_over()` also reads the journal, since an earlier attempt in the leased shape
    may have left entries.
    """

    def __init__(
        self,
        operation: Operation,
        lease: Lease | None = None,
        *,
        is_nested: bool = False,
    ) -> None:
        self.operation = operation
        self.using = operation.using
        self.lease = lease
        self._is_nested = is_nested
        """Whether the transaction around us may have claimed the row itself."""
        self._location: str | None = None
        """Where the row was when it was last read."""
        self.has_unfinished = False
        """Whether the row, when it was last read, was that of work that had begun."""
        intent = operation.intent
        self._deadline = 0.0
        """Until when it may wait for the locks of a row that is there."""
        self._precedence = None if intent is None else Precedence(operation, intent)
        self._is_over = False
        """Whether the row, when it was last read, stood for nothing any more."""
        self._is_unreadable = False
        """Whether a retry can't go on, since what its steps have returned can't be read."""

    @cached_property
    def journal(self) -> Journal:
        """Empty, unless `take_over()` has read one."""
        return Journal(row_id=self.operation.record_id)

    @property
    def is_expected(self) -> bool:
        return self.operation.record_id in answered

    def insert(self, wait: timedelta) -> Claim:
        self.has_unfinished = False
        # Not that of an earlier look: the row that it was in is gone.
        self.journal = Journal(row_id=self.operation.record_id)
        deadline = time.monotonic() + wait.total_seconds()
        if self.lease is None:
            claim = records.claim(self.operation, wait=wait)
        else:
            claim = records.claim_leased(self.operation, self.lease, wait=wait)
        self.operation.course.kept_until = claim.kept_until
        if self._precedence is not None:
            self._precedence.claim(deadline)
        return claim

    def lock(self, wait: timedelta) -> None:
        self._deadline = time.monotonic() + wait.total_seconds()
        rows.lock(
            IdempotencyRecord,
            self.operation.record_id,
            using=self.using,
            wait=wait,
            location=self._location,
        )

    def look(self) -> Decision | None:
        if self._precedence is None:
            return self._look_at_record()
        if self._precedence.is_waited_for:  # pragma: no cover - MariaDB
            verdict = self._precedence.look()
            if verdict is not None:
                return verdict
        decision = self._look_at_record()
        # Its own outcome goes before: a copy of the second one is a copy.
        if decision is None or isinstance(decision, Renew):
            return self._precedence.look() or decision
        return decision

    def _look_at_record(self) -> Decision | None:
        decision = self._looked()
        # See Note [The word of the other side].
        is_settled = (
            isinstance(decision, Held)
            and not self._is_nested
            and words.settle(self.operation.record_id, using=self.using)
        )
        return self._looked() if is_settled else decision

    def _looked(self) -> Decision | None:
        row = records.read(self.operation.record_id, using=self.using)
        self._location = None if row is None else row.location
        return self._decision(row)

    def look_locked(self) -> Decision | None:
        """Read by location: under SERIALIZABLE a read by id takes a predicate lock on a
        page of the index, and renewals of other keys on that page would fail."""
        record_id = self.operation.record_id
        return self._decision(
            records.read_locked(record_id, self._location, using=self.using)
        )

    def take_over(self) -> Claim:
        if self._is_over:
            records.delete(self.operation, self._location)
            left = timedelta(seconds=max(0.0, self._deadline - time.monotonic()))
            return self.insert(left)
        if self.lease is None:
            claim = records.renew(self.operation, self._location)
        else:
            claim = records.take_over(self.operation, self.lease, self._location)
        self.operation.course.kept_until = claim.kept_until
        try:
            self.journal = records.read_journal(claim)
            if self.journal.fault is not None:
                raise self.journal.fault
            words.finish(self.journal, claim.row_id, using=self.using)
        except Undecodable as fault:
            # To run without them would be to do again what is done. So the claim is
            # rolled back, and the row is as it was once the key is back.
            report_undecodable(self.operation, fault)
            self._is_unreadable = True
            raise ClaimConflict from fault
        if self._precedence is not None:
            self._precedence.claim(self._deadline)
        return claim

    def _decision(self, row: RowView | None) -> Decision | None:
        operation = self.operation
        if row is None:
            return None
        decision = decide(operation, row, rows.storable(str(operation.scope)))
        self.has_unfinished = row.state == RecordState.IN_FLIGHT
        self._is_over = isinstance(decision, Renew) and decision.is_over
        if self._is_unreadable and isinstance(decision, Renew):
            return Held()
        if isinstance(decision, Held) and row.state == RecordState.IN_FLIGHT:
            if self._is_nested:
                return InFlight()
            report_lost(operation)
        if isinstance(decision, Replay):
            answered.add(operation.record_id)
        return decision
