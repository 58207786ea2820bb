"""Servers as child processes, none of which outlives its parent."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import httpx

from . import ServerFailed, tail

PROJECT = Path(__file__).resolve().parents[3]
START_SECONDS = 60


def listen() -> socket.socket:
    """A listening socket on a free port of the loopback interface.

    It is handed to the server, so that nobody can take the port in between.
    """
    return socket.create_server(("127.0.0.1", 0), backlog=512)


def url_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


class Children:
    """Starts processes, and as a context manager ends them on every way out."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._are_ended = False

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._are_ended = True
        # Nothing in them is worth a goodbye, and the groups take in all their workers.
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.wait()

    def start(
        self,
        name: str,
        program: Sequence[str],
        environment: Mapping[str, str],
        listener: socket.socket | None = None,
    ) -> None:
        """Start a program, which inherits the socket to serve if there is one.

        Raises:
            ServerFailed: it is too late, since all have been ended.
        """
        with (
            self._lock,
            self._output(name).open("wb") as output,
            self._log(name).open("wb") as log,
        ):
            if self._are_ended:
                raise ServerFailed(f"{name} was not started: all have been ended.")
            self._processes[name] = subprocess.Popen(  # noqa: S603
                program,
                cwd=PROJECT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                pass_fds=[] if listener is None else [listener.fileno()],
                # A group of its own: Ctrl-C reaches the parent alone, which then ends
                # them all, grandchildren included.
                start_new_session=True,
            )

    def result(self, name: str) -> bytes:
        """Wait for the program's end and return what it printed.

        Raises:
            ServerFailed: it failed; the message ends with its errors.
        """
        try:
            failed = self._processes[name].wait(START_SECONDS) != 0
        except subprocess.TimeoutExpired:
            failed = True
        if failed:
            raise ServerFailed(f"{name} failed:\n{tail(self._log(name))}")
        return self._output(name).read_bytes()

    def ready(self, name: str, url: str) -> None:
        """Wait until the server answers there, with whatever status below 500.

        Raises:
            ServerFailed: it doesn't, or has ended; the message ends with its log.
        """
        process = self._processes[name]
        end = time.monotonic() + START_SECONDS
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(url, timeout=5, trust_env=False)
                if answer.status_code < 500:
                    return
            time.sleep(0.05)
        raise ServerFailed(f"{name} does not answer:\n{tail(self._log(name))}")

    def _output(self, name: str) -> Path:
        return self._logs / f"{name}.out"

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


@contextlib.contextmanager
def signals_as_exceptions() -> Iterator[Callable[[], None]]:
    """Let SIGTERM and a closed terminal unwind the stack, as Ctrl-C does.

    Yields what makes them ignored, to be called before a clean-up that must not be
    interrupted; the first of them calls it too.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def ignore() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        ignore()
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield ignore
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
