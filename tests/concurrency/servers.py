"""Server processes of their own, with the shop's views, on the test database."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from django.db import connection

from tests.concurrency.shop import SIGNAL_VARIABLE
from tests.concurrency.storm import TIMEOUT

__all__ = ["Server", "environment", "server"]


@dataclass(frozen=True, slots=True)
class Server:
    process: subprocess.Popen[str]
    address: str


def environment(**more: str) -> dict[str, str]:
    """The environment of a program that works on the test database."""
    return {
        **os.environ,
        "DATABASE_URL": _database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        **more,
    }


@contextlib.contextmanager
def server(
    *arguments: str,
    session_options: str = "",
    sends_itself: signal.Signals | None = None,
) -> Iterator[Server]:
    """Run a server process until the end, or until it is killed.

    `arguments` are those of the program.
    `session_options` are PostgreSQL's, as in ``-c idle_session_timeout=1s``;
    `sends_itself` is the signal that its views end in, just before they return.
    """
    more = {"PGOPTIONS": session_options}
    if sends_itself is not None:
        more[SIGNAL_VARIABLE] = sends_itself.name
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "tests.concurrency.serve", *arguments],
        cwd=Path(__file__).parents[2],
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        yield Server(process, f"http://127.0.0.1:{port}")
    finally:
        _stop(process, gently=sends_itself is None)
        process.stdout.close()


def _stop(process: subprocess.Popen[str], *, gently: bool) -> None:
    if gently:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
    process.kill()
    process.wait(TIMEOUT)


def _database_url() -> str:
    settings = connection.settings_dict
    user = f"{quote(settings['USER'])}:{quote(settings['PASSWORD'])}"
    name = quote(str(settings["NAME"]), safe="")
    return f"postgres://{user}@{settings['HOST']}:{settings['PORT']}/{name}"
