"""A PgBouncer of its own before the tests' PostgreSQL, in transaction mode.

The environment variable ``PGBOUNCER`` names the program; see
:mod:`tests.support.embedded_postgresql`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.servers import free_port
from tests.support.servers.accounts import quietly, temporary_folder
from tests.support.servers.foreground import listens, started

VARIABLE = "PGBOUNCER"

DATABASE_SETTINGS: dict[str, Any] = {
    "DISABLE_SERVER_SIDE_CURSORS": True,
    "OPTIONS": {"prepare_threshold": None},
}
"""What the documentation tells to add to a database behind PgBouncer."""

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
        port = free_port()
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                server_port=server_port, port=port, users=users, pool_size=pool_size
            )
        )
        words, log = [program, str(configuration)], folder / "log"
        # It refuses to run as root, too.
        with started(words, log=log, is_ready=lambda: listens(port), **quietly()):
            yield port
    finally:
        shutil.rmtree(folder, ignore_errors=True)
