from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

SECONDS_BETWEEN_BEATS = 1.0
"""As long as the worker does the same."""


class Heartbeat:
    """Says that a worker is alive, and what it does: in a file, and to systemd.

    A probe looks at how old the file is. Systemd hears it if it asks, with
    ``Type=notify``: the last word is in ``systemctl status``, and ``WatchdogSec`` ends
    a worker that says nothing for so long. What can't be told stops no worker: then the
    file gets old, or systemd hears nothing.

    Raises:
        OSError: the file can't be written at the start.
    """

    def __init__(self, file: Path | None, warn: Callable[[str], object]) -> None:
        self._file = file
        self._warn = warn
        # That of systemd in its abstract namespace begins with "@".
        self._systemd = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
        self._doing = ""
        self._next = 0.0
        self._is_first = True
        self._has_warned = False
        if file is not None:
            self._write(file, "starting")

    def __enter__(self) -> Heartbeat:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._notify("STOPPING=1")
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def beat(self, doing: str, handled: str) -> None:
        """Say what the worker does now, and what it has handled so far."""
        now = time.monotonic()
        if doing == self._doing and now < self._next:
            return
        self._doing, self._next = doing, now + SECONDS_BETWEEN_BEATS
        told = f"{doing}; handled {handled}"
        ready = "READY=1\n" if self._is_first else ""
        self._is_first = False
        self._notify(f"{ready}WATCHDOG=1\nSTATUS={told}")
        if self._file is not None:
            try:
                self._write(self._file, told)
            except OSError as error:
                if not self._has_warned:
                    self._has_warned = True
                    self._warn(f"The health file can't be written: {error}")

    def _write(self, file: Path, told: str) -> None:
        # In one step, so that no probe reads half of it.
        new = file.with_name(f"{file.name}.new")
        new.write_text(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S+00:00} {told}\n")
        new.replace(file)

    def _notify(self, message: str) -> None:
        if not self._systemd:
            return
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
        ):
            # Who has too much to read keeps each sender waiting.
            sender.settimeout(SECONDS_BETWEEN_BEATS)
            sender.sendto(message.encode(), self._systemd)
