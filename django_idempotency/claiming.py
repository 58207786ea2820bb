"""How the right to run is got: insert first, wait, look, take over.

Records and webhook events differ in what stands in their rows; the way to one is the
same, and written once.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Generic, TypeVar

from django.db import connections, transaction

from . import store
from .decisions import InFlight, Renew
from .exceptions import (
    ClaimBusy,
    ClaimConflict,
    ClaimFailed,
    ClaimOutrun,
    ClaimTimedOut,
    StoreUnavailable,
)
from .store import Claim

__all__ = ["Claiming"]

T = TypeVar("T")
V = TypeVar("V")

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two looks at a row that somebody else is running."""

FIRST_WAIT = timedelta(milliseconds=250)
"""For a leader, before the rest of the wait is bounded exactly."""

SHORTEST_LATENESS = timedelta(seconds=1)
"""A claim that took less was slowed down by the database, not by a failing leader."""


class _Wait:
    """How long one caller may still wait, through any number of leaders."""

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._latest = max(limit, SHORTEST_LATENESS).total_seconds()
        self._started: float | None = None

    def start(self) -> None:
        """Begin to count, once; waiting for a free connection is nobody's fault."""
        if self._started is None:
            self._started = time.monotonic()

    @property
    def left(self) -> timedelta:
        left = self._limit - timedelta(seconds=self._elapsed)
        return max(timedelta(0), left)

    @property
    def is_late(self) -> bool:
        """Whether even a claim in hand has to be given back.

        The limit of the first INSERT starts anew with each leader, so a copy behind many
        that fail quickly one after the other can get the claim long after its wait.
        """
        return self._elapsed > self._latest

    @property
    def _elapsed(self) -> float:
        return 0 if self._started is None else time.monotonic() - self._started


class Claiming(ABC, Generic[T, V]):
    """One caller's way to a row, through conflicts and failing leaders.

    `T` is what running comes to, `V` what a row in the way can say.
    """

    durable = False
    """Whether the claim is all that its transaction does: then no other may be open, and
    one that fails to commit can be tried again."""

    def __init__(self, *, using: str, wait: timedelta) -> None:
        self.using = using
        self.wait = _Wait(wait)
        self.has_started = False
        self.is_contended = False
        """Whether the short first wait is over, and the rest is bounded exactly."""
        # The connection may have died while nobody used it.
        self.may_reconnect = True

    @abstractmethod
    def claim(self, wait: timedelta) -> Claim:
        """Insert the row, waiting for an uncommitted one; `ClaimConflict` if there is
        one."""

    @abstractmethod
    def lock(self, wait: timedelta) -> None:
        """Lock the row that exists, waiting for who has it."""

    @abstractmethod
    def renew(self) -> Claim:
        """Make the locked row ours."""

    @abstractmethod
    def look(self) -> V | Renew | None:
        """Read the committed row and decide; ``None`` if it is gone."""

    def look_again(self) -> V | Renew | None:
        """Read the locked row and decide; ``None`` if it has changed meanwhile."""
        return self.look()

    @abstractmethod
    def run(self, claim: Claim) -> T:
        """Do the work, in the transaction that holds the claim."""

    @property
    def expects_row(self) -> bool:
        """A guess which of two statements should come first; either order is right."""
        return False

    @property
    def joins_transaction(self) -> bool:
        """Whether somebody else's transaction is open around the claim."""
        return connections[self.using].in_atomic_block

    def pauses(self) -> Iterator[float]:
        """Yield how long to sleep before each further look, until the wait is over.

        It is one wait, whatever of it an uncommitted row in the way has used up.
        """
        pause = FIRST_PAUSE
        while left := self.wait.left.total_seconds():
            yield min(pause, left)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def result(self) -> T | V | InFlight:
        """Run, or return what the row in the way says.

        Raises:
            StoreUnavailable: the claim could not be tried; nothing has run.
            Exception: whatever `run` or the commit raised.
        """
        decision = self.looked() if self.expects_row else None
        while True:
            if decision is not None and not isinstance(decision, Renew):
                return decision
            if self.wait.is_late:
                return InFlight()
            try:
                return self._run_claimed(row_exists=isinstance(decision, Renew))
            except ClaimFailed as failure:
                if self.has_started:  # then it is the work's own affair
                    raise
                decision = self._decision_after(failure)

    def _decision_after(self, failure: ClaimFailed) -> V | InFlight | Renew | None:
        """Return what the row in the way says; ``None``: try to claim again."""
        match failure:
            case ClaimBusy():  # pragma: no cover - MariaDB
                return self._translated(self._waited_for)
            case ClaimTimedOut():
                if self.is_contended or not self.wait.left:
                    return InFlight()
                self.is_contended = True
                return None
            case ClaimOutrun():
                # In a transaction that isn't ours the winner is outside the snapshot.
                return InFlight() if self.joins_transaction else None
            case StoreUnavailable():
                may_reconnect = self.may_reconnect and not self.joins_transaction
                if not (may_reconnect and failure.is_disconnect):
                    raise failure
                self.may_reconnect = False
                connections[self.using].close()
                return None
            case _:  # a committed row
                return self.looked()

    def looked(self) -> V | InFlight | Renew | None:
        """Return what the row says, if there is one, whatever the database says first."""
        return self._translated(
            self._look_for_the_wait if self.joins_transaction else self.look
        )

    def _translated(
        self, look: Callable[[], V | Renew | None]
    ) -> V | InFlight | Renew | None:
        try:
            self._connect()
            with store.claim_errors(self.using):
                return look()
        except ClaimFailed as failure:
            return self._decision_after(failure)

    def _look_for_the_wait(self) -> V | Renew | None:
        """Look in a transaction, where MariaDB waits for who has the row."""
        with store.opened(self.using, self.wait.left):
            return self.look()

    def _waited_for(  # pragma: no cover - MariaDB
        self,
    ) -> V | Renew | None:
        """Look at a row that somebody has; wait for it, if nothing is committed yet.

        See Note [Why MariaDB never waits in the claim].
        """
        self.is_contended = True
        if not self.joins_transaction and (decision := self.look()) is not None:
            return decision
        with (
            store.opened(self.using, self.wait.left),
            transaction.atomic(using=self.using),
        ):
            decision = self.look()
        if decision is None:
            # The leader failed. If it is somebody's lock on the gap that keeps us out,
            # there was nothing to wait for.
            time.sleep(FIRST_PAUSE)
        return decision

    def _run_claimed(self, *, row_exists: bool) -> T:
        self._connect()
        wait = self.wait.left
        with ExitStack() as stack:
            if self.durable:
                stack.enter_context(store.claim_errors(self.using))
            with store.claim_errors(self.using), store.opened(self.using, wait):
                stack.enter_context(
                    transaction.atomic(using=self.using, durable=self.durable)
                )
                claim = self._renewed(wait) if row_exists else self._inserted(wait)
            if wait and self.wait.is_late:  # without a wait it was behind nobody
                raise ClaimTimedOut
            self.has_started = not self.durable
            return self.run(claim)

    def _connect(self) -> None:
        with store.claim_errors(self.using):
            connections[self.using].ensure_connection()
        self.wait.start()

    def _inserted(self, wait: timedelta) -> Claim:
        if not self.is_contended:
            return self.claim(min(wait, FIRST_WAIT))
        with store.locking(self.using, wait):
            return self.claim(wait)

    def _renewed(self, wait: timedelta) -> Claim:
        """Lock the row, look again, and make it ours if it is still free."""
        self.is_contended = True
        self.lock(wait)
        if not isinstance(self.look_again(), Renew):
            raise ClaimConflict
        return self.renew()
