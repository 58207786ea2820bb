"""What is happening, for who waits: on standard error, out of the results' way."""

from __future__ import annotations

import time
from typing import TextIO

__all__ = ["Progress"]


class Progress:
    """One line that changes on a terminal, else a line for each step."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._changes = stream.isatty()
        self._begin = time.monotonic()

    def __call__(self, step: str) -> None:
        seconds = time.monotonic() - self._begin
        line = f"{seconds:5.1f} s  {step} ..."
        self._write(f"\r\033[K{line}" if self._changes else f"{line}\n")

    def done(self) -> None:
        if self._changes:
            self._write("\r\033[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
