"""How long whoever repeats a request waits for the one that runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from django_idempotency.store.rows import NO_WAIT

FIRST_PAUSE = 0.02
LONGEST_PAUSE = 0.5
"""Seconds between two looks at a row whose operation is running elsewhere."""

SHORTEST_LATENESS = timedelta(seconds=1)
"""A claim within this time is never late: the database was slow, no leader failed."""


class Wait:
    """How long one caller may still wait, through any number of leaders."""

    def __init__(self, limit: timedelta) -> None:
        self._limit = limit
        self._latest = max(limit, SHORTEST_LATENESS).total_seconds()
        self._started: float | None = None

    def start(self) -> None:
        """Start the clock, once.

        Called when there is a connection: time spent waiting for a free one in a pool
        doesn't count, since it has nothing to do with the operation.
        """
        if self._started is None:
            self._started = time.monotonic()

    @property
    def left(self) -> timedelta:
        left = self._limit - timedelta(seconds=self._elapsed)
        return max(NO_WAIT, left)

    @property
    def is_late(self) -> bool:
        """Whether it is too late even for a claim that was just made.

        The limit of the first INSERT starts anew with each leader, so a copy behind many
        that fail quickly one after the other can get the claim long after its wait.
        """
        return self._elapsed > self._latest

    def pauses(self) -> Iterator[float]:
        """Yield how long to sleep before each further look, until the wait is over.

        Time spent waiting for an uncommitted row counts as part of the same wait.
        """
        pause = FIRST_PAUSE
        while left := self.left.total_seconds():
            yield min(pause, left)
            pause = min(pause * 1.5, LONGEST_PAUSE)

    @property
    def _elapsed(self) -> float:
        return 0 if self._started is None else time.monotonic() - self._started
