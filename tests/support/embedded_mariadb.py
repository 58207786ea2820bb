"""Pytest plugin: one temporary MariaDB for a run that asks for it.

It is asked for by a ``DATABASE_URL`` that names no server::

    DATABASE_URL=mysql:// pytest

The programs are Debian's, of ``mariadb-server-core`` and ``mariadb-client``. Like
:mod:`tests.embedded_postgresql`, it is started by the process that was started by hand
and inherited by xdist's workers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from example_project.postgres_programs import account, own_folder, temporary_folder
from tests.embedded_postgresql import make_termination_an_exception

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ASKED_FOR = "mysql://"

PATIENCE_SECONDS = 60

# As Debian sets them, and then what a server may skip whose data nobody wants back.
OPTIONS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    "max-connections": "200",
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-doublewrite": "0",
}


class MariaDBError(Exception):
    """The embedded MariaDB can't be installed or started."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None]:
    if os.environ.get("DATABASE_URL") == ASKED_FOR:
        server = temporary()
        os.environ["DATABASE_URL"] = server.__enter__()

        def stop() -> None:
            os.environ["DATABASE_URL"] = ASKED_FOR
            server.__exit__(None, None, None)

        early_config.add_cleanup(stop)
        make_termination_an_exception()
    return (yield)


@contextlib.contextmanager
def temporary() -> Iterator[str]:
    """Run a server in a fresh folder and yield its URL; both are gone at the end."""
    folder = temporary_folder("mariadb-")
    try:
        data = folder / "data"
        own_folder(data)
        _install(data)
        with _started(data) as port:
            yield f"mysql://root@127.0.0.1:{port}/idempotency"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _install(data: Path) -> None:
    words = [
        _program("mariadb-install-db"),
        "--no-defaults",
        f"--datadir={data}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        *_as_account(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode != 0:
        raise MariaDBError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def _started(data: Path) -> Iterator[int]:
    port, log = _free_port(), data.with_name("log")
    words = [
        _program("mariadbd"),
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={data / 'socket'}",
        f"--port={port}",
        *(f"--{name}={value}" for name, value in OPTIONS.items()),
        *_as_account(),
    ]
    with log.open("w") as output:
        server = subprocess.Popen(  # noqa: S603
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd="/"
        )
    try:
        _wait_until_ready(server, log)
        yield port
    finally:
        server.terminate()
        try:
            server.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _wait_until_ready(server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while "ready for connections" not in (text := log.read_text(errors="replace")):
        if server.poll() is not None or time.monotonic() > end:
            raise MariaDBError(f"MariaDB does not start. Its log:\n{text}")
        time.sleep(0.05)


def _as_account() -> list[str]:
    """The server refuses to run as root, and can change to an account by itself."""
    borrowed = account()
    return [] if borrowed is None else [f"--user={borrowed.pw_name}"]


def _program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if path is None:
        raise MariaDBError(
            f"There is no {name}. On Debian: "
            "apt-get install --no-install-recommends mariadb-server-core mariadb-client"
        )
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
