"""A coordinator and two workers of Citus, for tests that are run by hand.

The environment variable ``CITUS`` names the folder with the programs of a PostgreSQL in
which Citus is installed; how it gets there is nothing of this project. ``CITUS_LAYOUT``
says how the package's own tables are kept: ``local`` to the coordinator, or
``distributed``. Others are local, and known to Citus.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.support.servers import postgresql
from tests.support.servers.postgresql import Server
from tests.support.servers.postgresql_programs import VARIABLE as PROGRAMS
from tests.support.servers.postgresql_programs import Programs

VARIABLE = "CITUS"
LAYOUT = "CITUS_LAYOUT"
SETTINGS = {
    # Servers are killed, and what they have acknowledged must be there afterwards.
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_preload_libraries": "citus",
    "max_prepared_transactions": "200",
    "max_connections": "300",
    "citus.shard_count": "4",
    "citus.recover_2pc_interval": "1s",
    "citus.node_conninfo": "sslmode=disable",
}
OURS = "django_idempotency_"
DATABASE = "test_postgres"


_of_this_run: list[Cluster] = []


def is_used() -> bool:
    return VARIABLE in os.environ


@dataclass(frozen=True, slots=True)
class Cluster:
    """The servers; the first one is the coordinator."""

    servers: list[Server]

    @property
    def coordinator(self) -> Server:
        return self.servers[0]

    @property
    def url(self) -> str:
        return self.coordinator.url

    def make_database(self, name: str) -> None:
        """Make it on every server, and let the coordinator know the others."""
        for server in self.servers:
            ask(server, f"CREATE DATABASE {name}", database="postgres")
            ask(server, "CREATE EXTENSION citus", database=name)
        first, *others = (server.port for server in self.servers)
        tell = partial(ask, self.coordinator, database=name)
        tell(f"SELECT citus_set_coordinator_host('127.0.0.1', {first})")
        for port in others:
            tell(f"SELECT citus_add_node('127.0.0.1', {port})")

    def kill(self, number: int) -> None:
        """End all processes of a server at once, as a power cut does."""
        server = self.servers[number]
        leader = psutil.Process(server.pid)
        everybody = [leader, *leader.children(recursive=True)]
        for process in everybody:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(everybody, timeout=10)

    def start_again(self, number: int) -> None:
        """At the same address, where everybody looks for it."""
        server = self.servers[number]
        folder = server.data.parent
        postgresql._clear_stale_pid_file(server.data)
        programs = Programs(copy_to=folder / "programs", log=folder / "log")
        port = f"-p {server.port}"
        assert programs.run("pg_ctl", "start", "-w", "-D", server.data, "-o", port)
        found = postgresql.running(server.data)
        assert found is not None
        self.servers[number] = found


@contextmanager
def running() -> Iterator[Cluster]:
    """The servers of the whole run, with the database that Django calls the tests'."""
    with cluster() as made:
        made.make_database(DATABASE)
        _of_this_run.append(made)
        yield made


def servers() -> Cluster:
    """Those of the whole run."""
    return _of_this_run[-1]


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Run the servers until the end."""
    os.environ[PROGRAMS] = os.environ[VARIABLE]
    with ExitStack() as stack:
        start = partial(postgresql.temporary, SETTINGS)
        yield Cluster([stack.enter_context(start()) for _ in range(3)])


def ask(server: Server, statement: str, *, database: str) -> list[Any]:
    url = server.url.rpartition("/")[0] + f"/{database}"
    with psycopg.connect(url, autocommit=True) as session:
        cursor = session.execute(statement)
        return cursor.fetchall() if cursor.description else []


def arrange(connection: BaseDatabaseWrapper) -> None:
    """Let Citus know every table of this database, ours as `CITUS_LAYOUT` says."""
    layout = os.environ.get(LAYOUT, "distributed")
    with connection.cursor() as cursor:
        cursor.execute("SELECT logicalrelid::text FROM pg_dist_partition")
        known = {name for (name,) in cursor.fetchall()}
        for table in sorted({*connection.introspection.table_names(cursor)} - known):
            if layout == "distributed" and table.startswith(OURS):
                cursor.execute(f"SELECT create_distributed_table('{table}', 'id')")
            elif table != "django_migrations":
                cursor.execute(
                    f"SELECT citus_add_local_table_to_metadata('{table}',"
                    " cascade_via_foreign_keys => true)"
                )
