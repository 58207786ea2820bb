from __future__ import annotations

import contextlib
import queue
import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Lets signals stop a command between two steps instead of within one.

    A KeyboardInterrupt in the middle of a commit would surface as some other error of
    the driver. A second signal has its usual effect. Outside the main thread, where
    Python delivers no signals, nothing changes.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self.is_wanted = False
        self._signals = signals
        self._previous: dict[signal.Signals, Any] = {}
        # Wakes the sleeper from a signal handler. An Event would deadlock there: the
        # handler may interrupt the thread that holds its lock. This queue is reentrant.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._restore()

    def wait(self, seconds: float) -> None:
        """Sleep this long, or until it is time to stop."""
        if not self.is_wanted:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=seconds)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_wanted = True
        self._wake.put(None)
        self._restore()

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
