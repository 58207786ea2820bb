"""What the owner of a lease may write to its row."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import Error, connections, transaction

from django_idempotency.core.decisions import RecordState
from django_idempotency.core.journal import Journal
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.exceptions import LeaseLost
from django_idempotency.store import records, rows
from django_idempotency.store.records import LEASE_LOST, Lease

from .links import Links

PATIENCE = timedelta(minutes=1)
PAUSE = 0.05
"""Seconds between two tries while others keep the database busy."""

SLOW = 1 / 4
"""The share of a lease that a commit may take before it is renewed once more."""
RENEWALS = 2
"""How often it is renewed for one call, where each commit is slow."""


class Owner:
    """The hold on a row that a committed claim gives, until the lease ends.

    Each of its writes is a transaction of its own, and raises `LeaseLost` if another
    attempt has taken the operation over or a person has settled it. Each step renews
    the lease.
    """

    def __init__(self, lease: Lease, journal: Journal, links: Links) -> None:
        self.lease = lease
        self.journal = journal
        self.links = links
        self.state = RecordState.IN_FLIGHT
        self.is_over = False
        """Whether the end, kept or released, is committed."""
        self._is_lost = False
        self._begin_until = 0.0
        """By this process's clock, when the lease is over that a call began with."""

    @property
    def is_held(self) -> bool:
        """Whether a call with ``if_unknown="hold"`` has begun and has no result."""
        return self.state is RecordState.HELD

    def begin_call(self, state: RecordState) -> None:
        """Commit that a call begins, unless the lease is over.

        Else two would be at it: whoever takes over may look the call up, find nothing
        and make it, and only then would it be made here. The time of a COMMIT that
        waits, for a disk or for another node, would be missing to the call.
        """
        self._require_lease()
        length = self.lease.length.total_seconds()
        for _ in range(1 + RENEWALS):
            began = time.monotonic()
            self._commit(records.begin_call, state)
            self._begin_until = began + length
            if time.monotonic() - began <= length * SLOW:
                break

    def require_time(self) -> None:
        """Refuse a call if this process stood still for too long since it began.

        Raises:
            LeaseLost
        """
        if time.monotonic() >= self._begin_until:
            raise LeaseLost(LEASE_LOST)

    def remember(self, state: RecordState = RecordState.IN_FLIGHT) -> None:
        """Commit the journal as it is now.

        Raises:
            DataError: it is longer than the database can take.
        """
        self._require_lease()
        self._commit(records.remember, state)

    def _commit(self, remember: Callable[..., None], state: RecordState) -> None:
        memory = self.journal.memory()
        records.require_fit(memory, self.lease.using)
        self._insist(lambda: remember(self.lease, memory, state, was=self.state))
        self.journal.is_stored(memory)
        self.links.are_stored()
        self.state = state

    def write(self, name: str, fn: Callable[[], Any]) -> Any:
        """Run ``fn()`` and commit what it writes with its memory, or neither.

        Raises:
            RuntimeError: a transaction of the view's own is open.
        """
        using, commit = self.lease.using, _Commit()
        entry = self.journal.begin(name, "write")
        try:
            with self._transaction(), rows.watched(connections[using]):
                # Before the callbacks of the work, which may raise.
                transaction.on_commit(commit.arrive, using=using)
                claim = records.begin_write(
                    self.lease, self.journal.memory(), was=self.state
                )
                entry.finish(fn())
                self._require_lease()
                memory = self.journal.memory()
                records.require_fit(memory, using)
                records.finish_write(claim, self.lease, memory)
                commit.is_due = True
            self.state = RecordState.IN_FLIGHT
        except BaseException as error:
            if commit.has_arrived:
                self.journal.is_stored(memory)
                raise
            self.journal.forget(entry)
            # Whether the COMMIT arrived is mostly known to the database alone: to write
            # a journal without this entry over it could make the next attempt write
            # twice.
            is_unknown = commit.is_due and not rows.is_refusal(error, using)
            self._is_lost = self._is_lost or is_unknown
            raise
        self.journal.is_stored(memory)
        return entry.result

    def extend(self, by: timedelta | None) -> None:
        """Make the lease last this long from now; by default, its first length."""
        self._require_lease()
        with self._transaction():
            records.extend(self.lease, by or self.lease.length)

    def keep(self, answer: StoredAnswer) -> None:
        self._require_lease()
        self._insist(lambda: records.keep_leased(self.lease, answer))
        self.is_over = True

    def release(self, failure: str | None) -> None:
        """End the lease. Writes no journal, so it is safe after an unknown commit."""
        with self._transaction():
            records.release_leased(self.lease, failure, is_held=self.is_held)
        self.is_over = True

    def _insist(self, act: Callable[[], None]) -> None:
        """Commit; while others keep the database busy or are first, again and again.

        Else what a call has come to would be unknown because somebody else wrote for
        long, and only a person could tell.
        """
        until = time.monotonic() + min(self.lease.length, PATIENCE).total_seconds()
        while True:
            try:
                with self._transaction():
                    act()
                    self.links.store()
                return
            except Error as error:
                # Then nothing was written, and it can be written again.
                is_passing = rows.is_passing(error, self.lease.using)
                if not is_passing or time.monotonic() >= until:
                    raise
                time.sleep(PAUSE)

    def _transaction(self) -> transaction.Atomic:
        return transaction.atomic(using=self.lease.using, durable=True)

    def _require_lease(self) -> None:
        if self._is_lost:
            raise LeaseLost(
                "It is unknown what was committed last; a retry will find out."
            )


class _Commit:
    """How far a transaction has come."""

    is_due = False
    has_arrived = False

    def arrive(self) -> None:
        self.has_arrived = True
