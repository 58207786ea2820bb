from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Lets Ctrl-C stop a command between two steps instead of within one.

    A KeyboardInterrupt in the middle of a commit comes out as some other error of the
    driver. The second Ctrl-C is raised at once, as always. Outside the main thread,
    where Python delivers no signals, nothing changes.
    """

    def __init__(self) -> None:
        self.is_wanted = False
        self._previous: Any = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.is_wanted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)
