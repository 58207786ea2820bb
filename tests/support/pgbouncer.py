"""A PgBouncer of its own before the tests' PostgreSQL, in transaction mode.

The environment variable ``PGBOUNCER`` names the program; see
:mod:`tests.embedded_postgresql`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from example_project.postgres_programs import quietly, temporary_folder

__all__ = ["DATABASE_SETTINGS", "VARIABLE", "is_between", "pgbouncer"]

VARIABLE = "PGBOUNCER"

DATABASE_SETTINGS: dict[str, Any] = {
    "DISABLE_SERVER_SIDE_CURSORS": True,
    "OPTIONS": {"prepare_threshold": None},
}
"""What the documentation tells to add to a database behind PgBouncer."""

TIMEOUT = 30.0

CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={server_port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
admin_users = postgres
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 1000
"""


def is_between() -> bool:
    return VARIABLE in os.environ


@contextmanager
def pgbouncer(program: str, *, server_port: int, pool_size: int = 100) -> Iterator[int]:
    """Run it until the end, and yield the port at which it listens.

    `pool_size` is how many connections to the server there are for each database.
    """
    folder = temporary_folder("pgbouncer-")
    try:
        users = folder / "users"
        users.write_text('"postgres" ""\n')
        port = _free_port()
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                server_port=server_port, port=port, users=users, pool_size=pool_size
            )
        )
        with _running(program, configuration, port):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(program: str, configuration: Path, port: int) -> Iterator[None]:
    log = configuration.with_name("log")
    with log.open("w") as output:
        # It refuses to run as root, too.
        options = quietly() | {"stdout": output, "stderr": output}
        process = subprocess.Popen([program, str(configuration)], **options)  # noqa: S603
    try:
        _wait_until_it_listens(process, port, log)
        yield
    finally:
        process.kill()
        process.wait(TIMEOUT)


def _wait_until_it_listens(
    process: subprocess.Popen[bytes], port: int, log: Path
) -> None:
    end = time.monotonic() + TIMEOUT
    while process.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise RuntimeError(f"PgBouncer does not listen:\n{log.read_text()}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
