"""MariaDB.

Note [Why MariaDB never waits in the claim]
An INSERT that waits for another one of the same id locks the gap around it when that
other one is rolled back. InnoDB then ends all waiting copies but one with a deadlock,
and the one that is left blocks all new keys that fall into the gap for as long as its
view runs. So the INSERT doesn't wait. Instead, a copy that is refused reads the row in a
transaction of its own, which waits for the leader and then holds no lock, and tries
again.

Note [Reading what is newest]
Under REPEATABLE READ an InnoDB transaction reads what was committed at its first read,
but locks and writes the newest version: a row that looks released may be kept by now.
Inside a transaction the row is therefore read by a locking read.

Note [Waiting for a table]
An ALTER TABLE that waits for a long transaction lets every later statement on that table
queue behind it, a plain SELECT as well, for `lock_wait_timeout`: a day. It bounds the wait
as part of each statement, as `innodb_lock_wait_timeout` does for a row, and costs no round
trip. A transaction that has used the table doesn't queue any more.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.history import MOST_NOTES, Happening

from .base import ENDS, Batch, Dialect, Trouble, statement_of

IMPLIES_COMMIT = (
    r"TRUNCATE|ANALYZE\s+(?:NO_WRITE_TO_BINLOG\s+|LOCAL\s+)?TABLE|ALTER"
    r"|(?:CREATE|DROP)(?!\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b)|RENAME|GRANT|REVOKE"
    r"|(?:UN)?LOCK\s+TABLES?|FLUSH|OPTIMIZE|REPAIR|CHECK\s+TABLE|CACHE\s+INDEX"
    r"|LOAD\s+INDEX|(?:UN)?INSTALL|RESET|CHANGE\s+MASTER|(?:START|STOP)\s+(?:ALL\s+)?"
    r"(?:SLAVE|REPLICA)S?|SET\s+(?:SESSION\s+|LOCAL\s+|@@(?:SESSION\.|LOCAL\.)?)?"
    r"AUTOCOMMIT|SET\s+PASSWORD"
)
"""What commits behind Django's back (MariaDB, *SQL statements that cause an implicit
commit*)."""

ROOM = 64 * 1024
"""What a statement may need beside a body, in bytes."""


class MariaDB(Dialect):  # pragma: no cover - MariaDB
    # NOW() would be in the session's time zone, but Django stores UTC. Even in an old
    # transaction this is the time at which the statement began.
    now = "UTC_TIMESTAMP(6)"
    statement_began = now
    insert_waits = False
    skip_locked = " FOR UPDATE SKIP LOCKED"
    newest = " LOCK IN SHARE MODE"
    read_committed = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
    as_text = "CAST({} AS CHAR)"
    within_lease = (
        "SET STATEMENT lock_wait_timeout = LEAST(@@lock_wait_timeout,"
        " CAST(CEILING(%(lease)s) AS UNSIGNED)) FOR "
    )

    first_limit = ""
    """What is said before the limits of each statement that has some."""

    DEADLOCK = 1213
    # The second one comes with innodb_snapshot_isolation: the row has changed since.
    CONFLICTS = frozenset({DEADLOCK, 1020})
    # Lock wait, max_statement_time, KILL QUERY.
    TIMEOUTS = frozenset({1205, 1969, 1317})
    DUPLICATE = 1062
    # The server shuts down, or has ended the connection; the driver's own codes are those
    # from 2000 on, and 0 for a connection that it has given up. With 1231 a server refuses
    # what a node of Galera takes: it is another one than was there before.
    DISCONNECTS = frozenset({0, 1053, 1231, 1927, *range(2000, 3000)})
    # Each by its code: the driver calls nearly everything that it doesn't know an
    # operational error, also a text that the column can't hold.
    UNAVAILABLE = frozenset(
        {
            # Read-only: by option, transaction or server.
            *{1290, 1792, 1836, 1874},
            # Full, or out of memory, threads or locks; I/O failed.
            *{1021, 1026, 1030, 1037, 1038, 1041, 1114, 1135, 1206, 1637},
            # Nobody gets in: too many, no such user or database, this host is blocked.
            *{1040, 1044, 1045, 1049, 1129, 1130, 1203, 1226},
            # A node of Galera that isn't ready.
            1047,
        }
    )
    NOT_MIGRATED = frozenset({1146, 1054})  # table, column
    NO_SAVEPOINT = 1305

    def insert_bounded(self, table: str, values: Mapping[str, str], column: str) -> str:
        # INSERT IGNORE would hide every other error, too.
        insert = self._insert(table, values)
        no_wait = "innodb_lock_wait_timeout = 0, lock_wait_timeout = 0"
        return f"SET STATEMENT {self.first_limit}{no_wait} FOR {insert}"

    def quoted(self, column: str) -> str:
        return f"`{column}`"

    def adding_up(self, table: str, columns: Collection[str]) -> str:
        added = ", ".join(
            f"{each} = {each} + VALUES({each})" for each in map(self.quoted, columns)
        )
        return f"ON DUPLICATE KEY UPDATE {added}"

    def replacing(self, columns: Collection[str]) -> str:
        replaced = ", ".join(
            f"{each} = VALUES({each})" for each in map(self.quoted, columns)
        )
        return f"ON DUPLICATE KEY UPDATE {replaced}"

    def later(self, parameter: str) -> str:
        return f"{self.now} + INTERVAL %({parameter})s SECOND"

    def appended(self, column: str, parameter: str) -> str:
        return (
            f"JSON_ARRAY_APPEND(CASE WHEN JSON_LENGTH({column}) < {MOST_NOTES}"
            f" THEN {column} ELSE JSON_REMOVE({column}, '$[1]') END,"
            f" '$', JSON_COMPACT(%({parameter})s))"
        )

    def noted_end(self, column: str) -> str:
        return (
            f"JSON_ARRAY(JSON_OBJECT('what', '{Happening.EXPIRED}', 'at',"
            f" CONCAT({column}, '+00:00')))"
        )

    def epoch(self, column: str) -> str:
        return f"TIMESTAMPDIFF(SECOND, '1970-01-01', {column})"

    def seconds_until(self, column: str) -> str:
        return f"TIMESTAMPDIFF(MICROSECOND, {self.now}, {column}) / 1e6"

    def delete_batch(self, table: str, condition: str) -> Batch:
        batch = self._batch_joined_to(table, condition)
        return Batch(at_once=f"DELETE {table} FROM {batch}")

    def update_batch(self, table: str, columns: str, condition: str) -> Batch:
        batch = self._batch_joined_to(table, condition)
        return Batch(at_once=f"UPDATE {batch} SET {columns}")

    def _batch_joined_to(self, table: str, condition: str) -> str:
        # A join in this order. With IN, MariaDB would scan the whole table and wait for
        # any locked row of it.
        return (
            f"(SELECT id {self._oldest(table, condition)}) AS batch"
            f" STRAIGHT_JOIN {table} ON {table}.id = batch.id"
        )

    @contextmanager
    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        # As part of each statement, because a setting of the session would outlive a
        # rollback. InnoDB's own limit is in whole seconds, but only it allows no wait.
        # See Note [Waiting for a table].
        seconds = wait.total_seconds()
        whole = math.ceil(seconds)
        limits = (
            f"{self.first_limit}innodb_lock_wait_timeout = {whole},"
            f" lock_wait_timeout = LEAST(@@lock_wait_timeout, {whole})"
        )
        if seconds:
            limits += f", max_statement_time = {_shorter_than_project(seconds)}"

        def execute_bounded(
            execute: Callable[..., Any], sql: str, *arguments: Any
        ) -> Any:
            if sql.startswith(("DELETE ", "INSERT ", "SELECT ", "UPDATE ")):
                sql = f"SET STATEMENT {limits} FOR {sql}"
            return execute(sql, *arguments)

        with connection.execute_wrapper(execute_bounded):
            yield

    locking = looking = opening

    @property
    def ends_transaction(self) -> re.Pattern[str]:
        return statement_of(f"{ENDS}|{IMPLIES_COMMIT}")

    def is_unmarked(self, error: Error) -> bool:
        return bool(error.args) and error.args[0] == self.NO_SAVEPOINT

    def fits(self, connection: BaseDatabaseWrapper, body: bytes) -> bool:
        # A longer statement ends the connection, and what was done on it.
        if len(body) < ROOM:
            return True
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            limit: int = cursor.fetchone()[0]
        if 2 * len(body) + ROOM <= limit:  # however many bytes take two
            return True
        if len(body) + ROOM > limit:
            return False
        driver: Any = connection.connection
        return len(driver.escape_string(body)) + ROOM <= limit

    @contextmanager
    def watching(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        # A deadlock ends the transaction and not only the statement; the next statement
        # begins another one. A view that swallows the error would commit only the rest.
        def execute_watched(execute: Callable[..., Any], *arguments: Any) -> Any:
            try:
                return execute(*arguments)
            except OperationalError as error:
                if error.args[0] == self.DEADLOCK and connection.in_atomic_block:
                    connection.needs_rollback = True
                raise

        with super().watching(connection), connection.execute_wrapper(execute_watched):
            yield

    def trouble(self, error: Error) -> Trouble | None:
        code = error.args[0] if error.args else None
        if code in self.CONFLICTS:
            return Trouble.CONFLICT
        if code in self.TIMEOUTS:
            return Trouble.TIMED_OUT
        if code == self.DUPLICATE:
            return Trouble.TAKEN
        if code in self.DISCONNECTS:
            return Trouble.DISCONNECTED
        if code in self.UNAVAILABLE:
            return Trouble.UNAVAILABLE
        return Trouble.NOT_MIGRATED if code in self.NOT_MIGRATED else None


def _shorter_than_project(seconds: float) -> str:  # pragma: no cover - MariaDB
    """A `max_statement_time`, unless the project's own is shorter; 0 is no limit."""
    return (
        f"IF(@@max_statement_time BETWEEN 1e-6 AND {seconds:.6f},"
        f" @@max_statement_time, {seconds:.6f})"
    )
