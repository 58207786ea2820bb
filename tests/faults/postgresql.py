"""A campaign's PostgreSQL."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import psycopg

from tests.faults.databases import (
    CANCEL_SECONDS,
    EVENTS,
    ONE_SERVER,
    Database,
    Session,
)
from tests.faults.databases import PATIENCE_SECONDS as PATIENCE
from tests.support.servers import postgresql
from tests.support.servers.postgresql_programs import Programs

# Without this a commit that was acknowledged may be gone after a crash of the server,
# and the campaign would report that. What only a power cut takes may stay off.
DURABLE = {"synchronous_commit": "on", "max_connections": "200"}

NO_SUCH_ERROR = "no error rolls back more than its statement, and lets the rest commit"
LEFT_OUT = {
    "table-altered": "a project bounds the wait for a table, by lock_timeout",
    "timeout-swallowed": NO_SUCH_ERROR,
    "change-swallowed": NO_SUCH_ERROR,
    "sabotage mark": "the number of the transaction takes its place, see savepoint",
    **ONE_SERVER,
}

SESSIONS = (
    "SELECT pid, left(query, 60) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND "
)


@contextmanager
def started() -> Iterator[Database]:
    with postgresql.temporary(DURABLE) as server:
        yield PostgreSQL(server)


class PostgreSQL(Database):
    now = "clock_timestamp()"
    lost = psycopg.OperationalError

    def __init__(self, server: postgresql.Server) -> None:
        super().__init__(server.url)
        self.server = server
        folder = server.data.parent
        self.programs = Programs(copy_to=folder / "programs", log=folder / "log")

    def restart(self) -> bool:
        """Without a checkpoint."""
        return self._pg_ctl("restart", "-m", "immediate")

    def kill(self) -> bool:
        pid_file = self.server.data / "postmaster.pid"
        first = psutil.Process(int(pid_file.read_text().split("\n")[0]))
        others = first.children(recursive=True)
        os.kill(first.pid, signal.SIGKILL)
        # They notice by themselves. While one is left, no new server may start.
        if psutil.wait_procs(others, timeout=PATIENCE)[1]:
            return False
        # The number in it may be that of a zombie, which PostgreSQL takes for alive.
        pid_file.unlink(missing_ok=True)
        return self._pg_ctl("start", "-o", f"-p {self.server.port}")

    def _pg_ctl(self, action: str, *options: str) -> bool:
        wait = ("-w", "-t", PATIENCE, "-D", self.server.data)
        return self.programs.run("pg_ctl", action, *options, *wait)

    def later(self, seconds: float) -> str:
        return f"{self.now} + {seconds} * interval '1 second'"

    def execute(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(statement.encode(), parameters)
            return found.fetchall() if found.description else []

    def make_due(self) -> None:
        waiting = f"FROM {EVENTS} WHERE next_attempt_at > {self.now}"
        self.query(
            f"UPDATE {EVENTS} SET next_attempt_at = {self.now}"  # noqa: S608
            f" WHERE id IN (SELECT id {waiting} FOR UPDATE SKIP LOCKED)"
        )

    def idle(self, seconds: float) -> list[Any]:
        return self.query(
            f"{SESSIONS} state = 'idle in transaction'"
            f" AND state_change < {self.later(-seconds)}"
        )

    def open(self, seconds: float = 0) -> list[Any]:
        return self.query(f"{SESSIONS} xact_start < {self.later(-seconds)}")


class ServerSession(Session):
    def end(self) -> None:
        self._do("SELECT pg_terminate_backend(%s, 2000)")

    def lose(self) -> Exception:
        return psycopg.OperationalError("the connection was lost")

    def cancel(self) -> None:
        canceller = threading.Timer(
            CANCEL_SECONDS, self._do, ("SELECT pg_cancel_backend(%s)",)
        )
        canceller.start()
        # Past Django, whose wrappers would count it.
        with self.connection.wrap_database_errors:
            self.connection.connection.execute("SELECT pg_sleep(5)")

    def _do(self, statement: str) -> None:
        backend = self.connection.connection.info.backend_pid
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as other:
            other.execute(statement.encode(), [backend])
