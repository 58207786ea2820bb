"""How to get the right to run: insert first, wait, look, take over.

Records and webhook events have different rows but are claimed in the same way, which is
written here once. `Claiming` has a `Row`, and offers three ways to use the claim.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any, Generic, TypeVar, final

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.decisions import InFlight, Renew
from django_idempotency.exceptions import (
    BrokenTransaction,
    ClaimBusy,
    ClaimConflict,
    ClaimFailed,
    ClaimOutrun,
    ClaimTimedOut,
    StoreBusy,
    StoreUnavailable,
)
from django_idempotency.store import rows
from django_idempotency.store.rows import Claim

from .waiting import FIRST_PAUSE, Wait

T = TypeVar("T")
V = TypeVar("V")

FIRST_WAIT = timedelta(milliseconds=250)
"""The first wait for a leader; only after it is the rest bounded exactly."""


class Row(ABC, Generic[V]):
    """One row and how to claim it. `V` is the verdict of a committed row."""

    using: str
    """The database that the row is in."""

    @property
    def is_expected(self) -> bool:
        """Whether to look before inserting. Only a guess: either order is correct."""
        return False

    @abstractmethod
    def insert(self, wait: timedelta) -> Claim:
        """Claim by inserting, waiting for an uncommitted row.

        Raises:
            ClaimConflict: there is a committed row.
            ClaimBusy: there may be one; this database doesn't wait in the insert.
        """

    @abstractmethod
    def lock(self, wait: timedelta) -> None:
        """Lock the existing row, waiting for whoever holds it."""

    @abstractmethod
    def look(self) -> V | Renew | None:
        """Read the committed row and decide; ``None`` if it is gone."""

    def look_locked(self) -> V | Renew | None:
        """Read the locked row and decide; ``None`` if it has changed meanwhile."""
        return self.look()

    @abstractmethod
    def take_over(self) -> Claim:
        """Claim the locked row, which is free."""


@final
class Claiming(Generic[V]):
    """Claims a row for one caller, through conflicts and failing leaders.

    If the row can't be claimed, each of the three ways returns the verdict of the row
    that is there, or `InFlight`. They raise `StoreUnavailable` if the claim could not
    be attempted; then nothing has run.
    """

    def __init__(self, row: Row[V], wait: timedelta) -> None:
        self.row = row
        self.using = row.using
        self.wait = Wait(wait)
        self.has_started = False
        """Whether the row is claimed and the work has begun: from then on every error
        comes from the work or from the commit."""
        self.is_committed = False
        """Whether what was claimed is committed, together with the work."""
        self._is_contended = False
        """Whether the short first wait is over; the rest is bounded exactly."""
        # The connection may have died while it was idle.
        self._may_reconnect = True

    def run(
        self, work: Callable[[Claim], T], then: Callable[[], None] | None = None
    ) -> T | V | InFlight:
        """Run `work` in the transaction that holds the claim, and commit both.

        `then` is called after the commit, before the callbacks of the work. If the claim
        has joined an outer transaction, it is after that one's commit.

        Raises:
            Exception: whatever `work` or the commit raised; both are rolled back.
        """

        def arrive() -> None:
            self.is_committed = True
            if then is not None:
                then()

        def run_claimed(*, row_exists: bool) -> T:
            with self._transaction(row_exists=row_exists, is_marked=True) as claim:
                self.has_started = True
                # Before the callbacks of the work, which may raise.
                transaction.on_commit(arrive, using=self.using, robust=True)
                return work(claim)

        return self._result(run_claimed)

    def commit(self, known: Renew | None = None) -> Claim | V | InFlight:
        """Commit the claim alone, outside of any other transaction.

        `known` is the result of an earlier look at the row. A commit that fails can be
        repeated, since nothing else is lost with it.
        """

        def commit_claim(*, row_exists: bool) -> Claim:
            with (
                rows.claim_errors(self.using),
                self._transaction(row_exists=row_exists, durable=True) as claim,
            ):
                return claim

        return self._result(commit_claim, known)

    def store(self) -> Claim | V | InFlight:
        """Claim in one statement that commits itself, where no transaction is open.

        BEGIN and COMMIT would be two more round trips. An existing row is taken over in
        a transaction, and where the wait is bounded for a transaction only, all are.
        """

        def store_row(*, row_exists: bool) -> Claim:
            connection = self._connect()
            with rows.claim_errors(self.using):
                bounds_claims = rows.bounds_claims(self.using)
            is_alone = connection.get_autocommit() and not bounds_claims
            if is_alone and not row_exists:
                wait = self.wait.left
                with rows.claim_errors(self.using), rows.opened(connection, wait):
                    return self.row.insert(wait)
            with self._transaction(row_exists=row_exists) as claim:
                self.has_started = True
                return claim

        return self._result(store_row)

    def looked(self) -> V | InFlight | Renew | None:
        """Return the committed row's decision, if there is one, translating errors."""
        return self._translated(self._look_for_the_wait)

    @property
    def joins_transaction(self) -> bool:
        """Whether a transaction that we didn't open is around the claim."""
        return connections[self.using].in_atomic_block

    def _result(
        self, claim: Callable[..., T], decision: V | InFlight | Renew | None = None
    ) -> T | V | InFlight:
        if decision is None and self.row.is_expected:
            decision = self.looked()
        while True:
            if decision is not None and not isinstance(decision, Renew):
                return decision
            if self.wait.is_late:
                return InFlight()
            is_ours = not self.joins_transaction
            try:
                return claim(row_exists=isinstance(decision, Renew))
            except ClaimFailed as failure:
                if self.has_started:
                    raise
                decision = self._decision_after(failure)
            except Error as error:
                if not is_ours or (verdict := self._after_conflict(error)) is None:
                    raise
                return verdict

    def _decision_after(self, failure: ClaimFailed) -> V | InFlight | Renew | None:
        """Return the verdict of the row that is there; ``None``: claim again."""
        match failure:
            case ClaimBusy():  # pragma: no cover - MariaDB
                return self._translated(self._waited_for)
            case ClaimTimedOut():
                if self._is_contended or not self.wait.left:
                    return InFlight()
                self._is_contended = True
                return None
            case ClaimOutrun():
                # An outer transaction's snapshot may be too old for the winner's row.
                return InFlight() if self.joins_transaction else None
            case StoreBusy():
                return self._after_busy(failure)
            case StoreUnavailable():
                may_reconnect = self._may_reconnect and not self.joins_transaction
                if not (may_reconnect and failure.is_disconnect):
                    raise failure
                self._may_reconnect = False
                connections[self.using].close()
                return None
            case _:  # a committed row
                return self.looked()

    def _after_conflict(self, error: Error) -> V | InFlight | None:
        """Return what is told to who has lost a conflict after the work has begun.

        Note [Looking again]
        Such an error is certain to have rolled everything back. If somebody else has
        claimed the row by then, as can be where two nodes of a cluster both take writes,
        the truth is that one's, and an error would only tell the client to ask for it.
        Otherwise the conflict is about the work's own rows, and the error is the work's.
        The work never runs again here: it may have made calls that nothing rolls back.
        A conflict may also be swallowed, as Django does where it is told of one when it
        rolls back to a savepoint; then the transaction is broken.
        """
        is_broken = isinstance(error, BrokenTransaction)
        is_conflict = is_broken or rows.is_conflict(error, self.using)
        if self.is_committed or not is_conflict:
            return None
        try:
            connection = self._connect()
            with (
                rows.claim_errors(self.using),
                rows.looking_anywhere(connection, self.wait.left),
            ):
                decision = self.row.look()
        except ClaimTimedOut:
            return InFlight()
        except (ClaimFailed, Error):
            return None
        return None if isinstance(decision, Renew) else decision

    def _translated(
        self, look: Callable[[], V | Renew | None]
    ) -> V | InFlight | Renew | None:
        try:
            self._connect()
            with rows.claim_errors(self.using):
                return look()
        except ClaimFailed as failure:
            return self._decision_after(failure)

    def _look_for_the_wait(self) -> V | Renew | None:
        """Look; in a transaction MariaDB waits for whoever holds the row."""
        connection = connections[self.using]
        if not connection.in_atomic_block:
            with rows.looking(connection, self.wait.left):
                return self.row.look()
        # In a savepoint, since an error can end the whole transaction, which isn't ours:
        # without it, Django would go on in another one and commit only the rest.
        with (
            rows.opened(connection, self.wait.left),
            transaction.atomic(using=self.using),
        ):
            return self.row.look()

    def _after_busy(self, failure: StoreBusy) -> V | Renew | None:
        """Try again for the rest of the wait; then see what can be read without a lock.

        A transaction around us that has read would get no lock however long it waits.
        """
        if self.wait.left and not self.joins_transaction:
            time.sleep(FIRST_PAUSE)
            return None
        if rows.is_unused(connections[self.using]):  # it would be waited for anew
            raise failure
        with rows.claim_errors(self.using):
            decision = self._look_for_the_wait()
        if decision is None or isinstance(decision, Renew):
            raise failure
        return decision

    def _waited_for(  # pragma: no cover - MariaDB
        self,
    ) -> V | Renew | None:
        """Look at a row that another session holds; wait if it isn't committed yet.

        See Note [Why MariaDB never waits in the claim].
        """
        self._is_contended = True
        if not self.joins_transaction:
            with rows.looking(connections[self.using], self.wait.left):
                decision = self.row.look()
            if decision is not None:
                return decision
        with (
            rows.opened(connections[self.using], self.wait.left),
            transaction.atomic(using=self.using),
        ):
            decision = self.row.look()
        if decision is None:
            # The leader failed. If another session's lock on the gap kept us out, there
            # was nothing to wait for.
            time.sleep(FIRST_PAUSE)
        return decision

    def _transaction(
        self, *, row_exists: bool, durable: bool = False, is_marked: bool = False
    ) -> _Transaction:
        connection = self._connect()
        atomic = transaction.atomic(using=self.using, durable=durable)
        return _Transaction(
            self, connection, atomic, row_exists=row_exists, is_marked=is_marked
        )

    def _connect(self) -> BaseDatabaseWrapper:
        connection = connections[self.using]
        try:
            if connection.connection is None:
                with rows.claim_errors(self.using):
                    connection.ensure_connection()
        finally:
            # Also if others keep it from being made, or that would be tried for ever.
            self.wait.start()
        return connection

    def claimed(self, wait: timedelta, *, row_exists: bool) -> Claim:
        """Claim, in the open transaction."""
        return self._taken_over(wait) if row_exists else self._inserted(wait)

    def _inserted(self, wait: timedelta) -> Claim:
        if rows.bounds_claims(self.using):
            return self.row.insert(wait)
        if not self._is_contended:
            return self.row.insert(min(wait, FIRST_WAIT))
        with rows.locking(self.using, wait):
            return self.row.insert(wait)

    def _taken_over(self, wait: timedelta) -> Claim:
        """Lock the row, look again, and claim it if it is still free."""
        self._is_contended = True
        self.row.lock(wait)
        if not isinstance(self.row.look_locked(), Renew):
            raise ClaimConflict
        return self.row.take_over()


class _Transaction(AbstractContextManager[Claim]):
    """A transaction that begins with the claim.

    Only the part up to the claim is bounded by the wait and has its errors translated
    to `ClaimFailed`; the work after it has its own limits and errors.
    """

    def __init__(
        self,
        claiming: Claiming[Any],
        connection: BaseDatabaseWrapper,
        atomic: transaction.Atomic,
        *,
        row_exists: bool,
        is_marked: bool,
    ) -> None:
        self._claiming = claiming
        self._connection = connection
        self._atomic = atomic
        self._row_exists = row_exists
        self._is_marked = is_marked

    def __enter__(self) -> Claim:
        using, clock = self._claiming.using, self._claiming.wait
        wait, is_open = clock.left, False
        try:
            with rows.claim_errors(using), rows.opened(self._connection, wait):
                self._atomic.__enter__()
                is_open = True
                claim = self._claiming.claimed(wait, row_exists=self._row_exists)
                if self._is_marked:
                    rows.mark(claim)
            # A claim with zero wait has not waited for a leader, so it is never late.
            if wait and clock.is_late:
                raise rows.too_late(using)
        except BaseException:
            if is_open:
                # Django notices at the rollback that there is no server any more.
                with rows.claim_errors(using):
                    self._atomic.__exit__(*sys.exc_info())
            raise
        return claim

    def __exit__(self, *raised: Any) -> None:
        self._atomic.__exit__(*raised)
