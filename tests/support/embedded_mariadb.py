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
    from collections.abc import Generator, Iterator

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
        raise ServerFailed(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def _started(data: Path) -> Iterator[int]:
    port, log = free_port(), data.with_name("log")
    words = [
        _program("mariadbd"),
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={data / 'socket'}",
        f"--port={port}",
        *(f"--{name}={value}" for name, value in OPTIONS.items()),
        *_as_account(),
    ]

    def is_ready() -> bool:
        return "ready for connections" in log.read_text(errors="replace")

    with started(words, log=log, is_ready=is_ready, cwd="/"):
        yield port


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
