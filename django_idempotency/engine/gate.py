"""Where copies of one key wait inside a process, before they use the database.

Its only purpose is to save connections. The database alone decides which copy runs, also
among copies in different processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(slots=True)
class _Passage:
    # Reentrant: a protected view may call another with the same key.
    lock: threading.RLock = field(default_factory=threading.RLock)
    users: int = 0


class Gate:
    """Lets one thread at a time pass for each place, such as a table and an id."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._passages: dict[Hashable, _Passage] = {}

    def passed(
        self, place: Hashable, wait: timedelta, before_waiting: Callable[[], None]
    ) -> AbstractContextManager[bool]:
        """Give whether this thread could pass within the wait."""
        return _Visit(self, place, wait, before_waiting)

    def come(self, place: Hashable) -> _Passage:
        with self._mutex:
            passage = self._passages.setdefault(place, _Passage())
            passage.users += 1
        return passage

    def leave(self, place: Hashable, passage: _Passage) -> None:
        with self._mutex:
            passage.users -= 1
            if not passage.users:
                del self._passages[place]


class _Visit(AbstractContextManager[bool]):
    # A class: a generator would cost each operation several times as much.
    def __init__(
        self,
        gate: Gate,
        place: Hashable,
        wait: timedelta,
        before_waiting: Callable[[], None],
    ) -> None:
        self._gate = gate
        self._place = place
        self._wait = wait
        self._before_waiting = before_waiting

    def __enter__(self) -> bool:
        self._passage = self._gate.come(self._place)
        try:
            self._has_passed = self._passes(self._passage.lock)
        except BaseException:
            self._gate.leave(self._place, self._passage)
            raise
        return self._has_passed

    def __exit__(self, *raised: object) -> None:
        if self._has_passed:
            self._passage.lock.release()
        self._gate.leave(self._place, self._passage)

    def _passes(self, lock: threading.RLock) -> bool:
        if lock.acquire(blocking=False):
            return True
        if not self._wait:
            return False
        self._before_waiting()
        seconds = min(self._wait.total_seconds(), threading.TIMEOUT_MAX)
        return lock.acquire(timeout=seconds)
