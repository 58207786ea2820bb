from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
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
        self._others = -1
        """Where somebody else has signals written."""

    def __enter__(self) -> Interruption:
        # Python runs a handler between two of its own steps. Who has just begun to sleep
        # would hear of a signal that came a moment before, or to another thread, when he
        # wakes up. What is written here by the system's own handler ends the sleep.
        self._heard, self._said = socket.socketpair()
        self._said.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                self._previous[number] = signal.signal(number, self._note)
            self._others = signal.set_wakeup_fd(
                self._said.fileno(), warn_on_full_buffer=False
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._others)
        self._restore()
        self._heard.close()
        self._said.close()

    def wait(self, seconds: float) -> None:
        """Sleep this long, or until it is time to stop."""
        end = time.monotonic() + seconds
        while not self.is_wanted and (left := end - time.monotonic()) > 0:
            self._heard.settimeout(left)
            with contextlib.suppress(TimeoutError):
                self._heard.recv(4096)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_wanted = True
        self._restore()

    def _restore(self) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
        self._previous.clear()
