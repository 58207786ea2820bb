"""A server program that runs from when it is ready until the end of a block."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import ServerFailed, tail

PATIENCE_SECONDS = 60


@contextmanager
def started(
    words: Sequence[str | Path],
    *,
    log: Path,
    is_ready: Callable[[], bool],
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start it, with these options of ``Popen``; at the end it is gone.

    Raises:
        ServerFailed: it ends at once or isn't ready in time; the message has its log.
    """
    with log.open("w") as output:
        to_log = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output}
        process = subprocess.Popen(words, **options | to_log)  # noqa: S603
    try:
        end = time.monotonic() + PATIENCE_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > end:
                raise ServerFailed(f"{words[0]} does not start. Its log:\n{tail(log)}")
            time.sleep(0.01)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
