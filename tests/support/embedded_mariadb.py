"""Pytest plugin: one temporary MariaDB for a run that asks for it.

It is asked for by a ``DATABASE_URL`` that names no server::

    DATABASE_URL=mysql:// pytest

The programs are Debian's, of ``mariadb-server-core`` and ``mariadb-client``. Like
:mod:`tests.support.embedded_postgresql`, it is started by the process that was started by hand
and inherited by xdist's workers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.embedded_postgresql import make_termination_an_exception
from tests.support.servers import ServerFailed, free_port
from tests.support.servers.accounts import account, own_folder, temporary_folder
from tests.support.servers.foreground import started

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

ASKED_FOR = "mysql://"

# As Debian sets them, and then what a server may skip whose data nobody wants back.
OPTIONS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    "max-connections": "200",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
    "log-bin": "binlog",
}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    if os.environ.get("DATABASE_URL") == ASKED_FOR:
        running = temporary()
        os.environ["DATABASE_URL"] = running.__enter__()

        def stop() -> None:
            os.environ["DATABASE_URL"] = ASKED_FOR
            running.__exit__(None, None, None)

        early_config.add_cleanup(stop)
        make_termination_an_exception()
    return (yield)


@contextlib.contextmanager
def temporary(options: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run a server in a fresh folder and yield its URL; both are gone at the end."""
    with server(options) as running:
        yield running.url


@contextlib.contextmanager
def server(options: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Like `temporary`, for whoever ends and starts it; these options before ours."""
    folder = temporary_folder("mariadb-")
    try:
        data = folder / "data"
        own_folder(data)
        own_folder(data.with_name("tmp"))
        install(data)
        with contextlib.ExitStack() as stack:
            running = Server(data, {**OPTIONS, **(options or {})})
            stack.callback(running.stop)
            running.start()
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A server that can be ended and started again, at the same address."""

    def __init__(self, data: Path, options: Mapping[str, str]) -> None:
        self.data = data
        self.options = options
        self.port = free_port()
        self._running = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mysql://root@127.0.0.1:{self.port}/idempotency"

    def start(self, options: Mapping[str, str] | None = None) -> None:
        """Start it, with more options if there are any, and wait until it is ready."""
        log = self.data.with_name("log")
        words = [
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.data / 'socket'}",
            f"--port={self.port}",
            *(f"--{key}={value}" for key, value in self.options.items()),
            *(f"--{key}={value}" for key, value in (options or {}).items()),
            *_as_account(),
        ]

        def is_ready() -> bool:
            return "ready for connections" in log.read_text(errors="replace")

        self._process = self._running.enter_context(
            started(
                words, log=log, is_ready=is_ready, cwd="/", env=_environment(self.data)
            )
        )

    def stop(self, *, kill: bool = False) -> None:
        if kill and self._process is not None:
            self._process.kill()
            self._process.wait()
        self._running.close()

    def create_database(self) -> None:
        """The one that the URL names; the tests make one of their own."""
        program, socket = _program("mariadb"), f"--socket={self.data / 'socket'}"
        words = [program, "--no-defaults", socket, "--user=root"]
        statement = "CREATE DATABASE idempotency"
        subprocess.run([*words, f"--execute={statement}"], check=True)  # noqa: S603


def install(data: Path) -> None:
    words = [
        _program("mariadb-install-db"),
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *_as_account(),
    ]
    done = subprocess.run(  # noqa: S603
        words, env=_environment(data), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ServerFailed(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")


def _environment(data: Path) -> dict[str, str]:
    """Each server removes all temporary tables that it finds where it keeps its own."""
    return {**os.environ, "TMPDIR": str(data.with_name("tmp"))}


def _as_account() -> list[str]:
    """The server refuses to run as root, and can change to an account by itself."""
    borrowed = account()
    return [] if borrowed is None else [f"--user={borrowed.pw_name}"]


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if path is None:
        raise ServerFailed(
            f"There is no {name}. On Debian: "
            "apt-get install --no-install-recommends mariadb-server-core mariadb-client"
        )
    return path
