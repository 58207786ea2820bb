"""What became of an operation, for somebody who asks and doesn't want it done.

Note [Asking by the claim]
In the atomic shape nobody sees a claim before it commits, and whoever was told "unknown"
meanwhile would believe that nothing happens. Only the claim itself meets every other one,
on each database and in both shapes. So where no answer is to be read, the question claims
the key like an attempt that may not wait, does nothing, and rolls it back: who gets the
claim knows that at this moment nobody else had it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from django.db import connections, transaction

from django_idempotency.core.decisions import (
    Decision,
    Renew,
    RowView,
    Standing,
    Unfinished,
    Unknown,
)
from django_idempotency.core.operations import Operation
from django_idempotency.store import rows
from django_idempotency.store.rows import Claim

from .claiming import Claiming
from .record_row import RecordRow


def ask(operation: Operation) -> Standing:
    """Return how the operation stands; its fingerprint is not compared.

    "Unknown" is told only if nobody held the key at a moment since it was asked. It waits
    no longer than a repeat that may not wait.

    Raises:
        StoreUnavailable: it can't be told just now.
    """
    # As for a repeat that may not wait; SQLite has one lock for all keys.
    with rows.claim_errors(operation.using):  # of a server that is asked what it is
        brief = replace(operation, wait=rows.brief_wait(operation.using))
    row = _AskedRow(brief, is_nested=connections[operation.using].in_atomic_block)
    return Claiming(row, brief.wait).run(row.given_back)


class _AskedRow(RecordRow):
    """A record that is claimed for a moment, and of which nothing stays written."""

    _standing: Unknown | Unfinished = Unknown()

    @property
    def is_expected(self) -> bool:
        return True

    def insert(self, wait: timedelta) -> Claim:
        self._standing = Unknown()
        return super().insert(wait)

    def given_back(self, claim: Claim) -> Unknown | Unfinished:
        transaction.set_rollback(True, using=claim.using)
        return self._standing

    def _decision(self, row: RowView | None) -> Decision | None:
        decision = super()._decision(row)
        if row is not None and isinstance(decision, Renew):
            self._standing = Unknown() if row.expired else Unfinished()
        return decision
