"""A campaign's MariaDB, with what can make it roll back more than a statement."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import MySQLdb

from tests.faults.databases import (
    CANCEL_SECONDS,
    EVENTS,
    ONE_SERVER,
    RECORDS,
    Database,
    Session,
)
from tests.support import embedded_mariadb, innodb

# A commit that was acknowledged outlives a kill, and half a page can be mended.
DURABLE = {"innodb-flush-log-at-trx-commit": "2", "innodb-doublewrite": "1"}

ALTER_SECONDS = 2
"""For how long a migration waits for a table, and others behind it."""

LEFT_OUT = {
    "pgbouncer": "is a pooler of PostgreSQL; tests.faults.load",
    "--count": "its transactions have no numbers to compare",
    "sabotage beside": "as --count",
    **ONE_SERVER,
    "failover": "to a synchronous standby of PostgreSQL; tests.faults.failover",
}

SESSIONS = (
    "SELECT id, left(coalesce(info, trx_state), 60) FROM information_schema.innodb_trx"
    " JOIN information_schema.processlist ON id = trx_mysql_thread_id"
    " WHERE db = database() AND id <> connection_id() AND "
)


def options(idle_seconds: int) -> dict[str, Any]:
    """Django's, for the processes under test.

    Each session draws its level of isolation, and whether a change since its snapshot
    is an error, by its number.
    """
    return {
        "connect_timeout": 5,
        "isolation_level": None,
        "init_command": (
            f"SET idle_transaction_timeout = {idle_seconds},"
            " tx_isolation = IF(connection_id() & 1, 'READ-COMMITTED',"
            " 'REPEATABLE-READ'),"
            " innodb_snapshot_isolation = IF(connection_id() & 2, 'ON', 'OFF')"
        ),
    }


def connected(url: str) -> Any:
    parts = urlsplit(url)
    return closing(
        MySQLdb.connect(
            host=parts.hostname,
            port=parts.port,
            user=parts.username,
            db=parts.path.strip("/"),
            connect_timeout=5,
            autocommit=True,
            # A clock that shows when the statement began would be late after a wait.
            init_command=(
                "SET sql_mode = 'ANSI_QUOTES', tx_isolation = 'READ-COMMITTED',"
                " innodb_lock_wait_timeout = 0, lock_wait_timeout = 0"
            ),
        )
    )


@contextmanager
def started() -> Iterator[Database]:
    with embedded_mariadb.server(DURABLE) as server:
        server.create_database()
        database = MariaDB(server)
        database.restart()  # with the option
        yield database


class MariaDB(Database):
    now = "utc_timestamp(6)"
    lost = MySQLdb.OperationalError

    def __init__(self, server: embedded_mariadb.Server) -> None:
        super().__init__(server.url)
        self.server = server
        self.rolls_back_on_timeout = False

    def restart(self) -> bool:
        return self._end(kill=False)

    def kill(self) -> bool:
        return self._end(kill=True)

    def _end(self, *, kill: bool) -> bool:
        # An option of the server's start: in turn with it, and without.
        self.rolls_back_on_timeout = not self.rolls_back_on_timeout
        state = "ON" if self.rolls_back_on_timeout else "OFF"
        self.server.stop(kill=kill)
        self.server.start({"innodb-rollback-on-timeout": state})
        return True

    def later(self, seconds: float) -> str:
        return f"{self.now} + INTERVAL {seconds} SECOND"

    def connected(self) -> Any:
        return connected(self.url)

    def execute(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        with self.connected() as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall()) if cursor.description else []

    def make_due(self) -> None:
        self.as_soon_as_it_is_there(self._make_due)

    def _make_due(self) -> None:
        with self.connected() as connection, connection.cursor() as cursor:
            cursor.execute("START TRANSACTION")
            cursor.execute(
                f"SELECT id FROM {EVENTS} WHERE next_attempt_at > {self.now}"  # noqa: S608
                " FOR UPDATE SKIP LOCKED"
            )
            if waiting := [event for (event,) in cursor.fetchall()]:
                marks = ", ".join(["%s"] * len(waiting))
                cursor.execute(
                    f"UPDATE {EVENTS} SET next_attempt_at = {self.now}"  # noqa: S608
                    f" WHERE id IN ({marks})",
                    waiting,
                )
            cursor.execute("COMMIT")

    def idle(self, seconds: float) -> list[Any]:
        sleeps = "command = 'Sleep' AND time_ms > %s"
        return self.query(SESSIONS + sleeps, 1000 * seconds)

    def open(self, seconds: float = 0) -> list[Any]:
        return self.query(
            f"{SESSIONS} trx_started <= now() - INTERVAL {seconds} SECOND"
        )


class ServerSession(Session):
    def end(self) -> None:
        self._do("KILL CONNECTION %s")
        alive = "SELECT 1 FROM information_schema.processlist WHERE id = %s"
        end = time.monotonic() + 2
        while self._do(alive) and time.monotonic() < end:
            time.sleep(0.005)

    def lose(self) -> Exception:
        error: Exception = MySQLdb.OperationalError(2013, "the connection was lost")
        return error

    def cancel(self) -> None:
        threading.Timer(CANCEL_SECONDS, self._do, ("KILL QUERY %s",)).start()
        # Past Django, whose wrappers would count it.
        with self.connection.wrap_database_errors:
            self.connection.connection.cursor().execute("SELECT sleep(5)")

    def alter(self) -> None:
        threading.Thread(target=self._alter, daemon=True).start()

    def _alter(self) -> None:
        limit = f"SET STATEMENT lock_wait_timeout = {ALTER_SECONDS} FOR"
        with (
            suppress(MySQLdb.OperationalError),
            innodb.another(self.connection) as session,
            session.cursor() as cursor,
        ):
            for table in (RECORDS, EVENTS):
                cursor.execute(f"{limit} ALTER TABLE {table} FORCE")

    def time_out(self) -> None:
        innodb.time_out(self.connection)

    def be_outrun(self) -> None:
        innodb.be_outrun(self.connection)

    def _do(self, statement: str) -> list[Any]:
        number = self.connection.connection.thread_id()
        with (
            innodb.another(self.connection) as session,
            session.cursor() as cursor,
        ):
            cursor.execute(statement, [number])
            return list(cursor.fetchall()) if cursor.description else []
