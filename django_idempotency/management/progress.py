from __future__ import annotations

import time
from collections.abc import Callable

from django.core.management.base import OutputWrapper

WIDTH = 30
LINE = 60
"""How much of a line is written over: what is shown can get shorter."""
SECONDS_BETWEEN_LINES = 10


class Progress:
    """Shows how far a long command has got: a bar on a terminal, else occasional lines.

    Cron mails whatever is written, so without a terminal nothing is written before
    SECONDS_BETWEEN_LINES have passed.

    `count_left` returns how much is left to do. It is called once, when its answer is
    first shown: counting can take as long as a good part of the work.
    """

    def __init__(
        self, out: OutputWrapper, *, count_left: Callable[[], int], verb: str
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
            self._draw(f"{self._verb} [{bar}] {share:4.0%} {done:,}")
        elif self._is_time_for_a_line():
            self._out.write(f"{self._verb} {done:,} of {self._total_after(done):,}")

    def wait(self, done: int) -> None:
        """Show that others keep the command waiting: nothing can be counted now."""
        told = f"{self._verb} {done:,}, waiting: others keep the database busy"
        if self._is_terminal:
            self._draw(told)
        elif self._is_time_for_a_line():
            self._out.write(told)

    def _draw(self, text: str) -> None:
        """Write over the line; without the end that Django's commands give each."""
        self._out.write(f"\r{text.ljust(LINE)}", str, "")
        self._out.flush()

    def _is_time_for_a_line(self) -> bool:
        now = time.monotonic()
        is_time = now - self._last_line >= SECONDS_BETWEEN_LINES
        if is_time:
            self._last_line = now
        return is_time

    def _total_after(self, done: int) -> int:
        if self._total is None:
            self._total = done + self._count_left()
        return self._total

    def close(self) -> None:
        """Leave the bar's line, so that what follows starts on a new one."""
        if self._is_terminal:
            self._out.write()
