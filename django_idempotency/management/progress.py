from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

WIDTH = 30
SECONDS_BETWEEN_LINES = 10


class Output(Protocol):
    """A text stream; Django's commands wrap theirs."""

    def write(self, text: str, /) -> object: ...
    def flush(self) -> object: ...
    def isatty(self) -> bool: ...


class Progress:
    """Shows how far a long command has got: a bar on a terminal, else occasional lines.

    Cron mails whatever is written, so without a terminal nothing is written before
    SECONDS_BETWEEN_LINES have passed.

    `count_left` returns how much is left to do. It is called once, when its answer is
    first shown: counting can take as long as a good part of the work.
    """

    def __init__(
        self, out: Output, *, count_left: Callable[[], int], verb: str
    ) -> None:
        self._out = out
        self._count_left = count_left
        self._total: int | None = None
        self._verb = verb
        self._is_terminal = out.isatty()
        self._last_line = time.monotonic()

    def show(self, done: int) -> None:
        if self._is_terminal:
            # Rows can expire after they were counted; the bar stops at its end.
            total = self._total_after(done)
            share = min(1.0, done / total) if total else 1.0
            bar = ("#" * int(share * WIDTH)).ljust(WIDTH, ".")
            self._out.write(f"\r{self._verb} [{bar}] {share:4.0%} {done:,}")
            self._out.flush()
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._out.write(f"{self._verb} {done:,} of {self._total_after(done):,}\n")

    def _total_after(self, done: int) -> int:
        if self._total is None:
            self._total = done + self._count_left()
        return self._total

    def close(self) -> None:
        """Leave the bar's line, so that what follows starts on a new one."""
        if self._is_terminal:
            self._out.write("\n")
