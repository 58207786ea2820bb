"""Where copies of one key wait inside a process, before they use the database.

Its only purpose is to save connections. The database alone decides which copy runs, also
among copies in different processes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
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

    @contextmanager
    def passed(
        self, place: Hashable, wait: timedelta, before_waiting: Callable[[], None]
    ) -> Iterator[bool]:
        """Yield whether this thread could pass within the wait."""
        with self._mutex:
            passage = self._passages.setdefault(place, _Passage())
            passage.users += 1
        try:
            has_passed = passage.lock.acquire(blocking=False)
            if not has_passed and wait:
                before_waiting()
                seconds = min(wait.total_seconds(), threading.TIMEOUT_MAX)
                has_passed = passage.lock.acquire(timeout=seconds)
            try:
                yield has_passed
            finally:
                if has_passed:
                    passage.lock.release()
        finally:
            with self._mutex:
                passage.users -= 1
                if not passage.users:
                    del self._passages[place]
