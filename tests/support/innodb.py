"""How a session on MariaDB gets errors that can roll back more than their statement.

Each function lets Django's connection meet one, and swallows it, as a careless view does.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from typing import Any

from django.db import OperationalError

WRITE = "UPDATE contended SET n = n + 1 WHERE id = {}"

Write = Callable[[Any, str], None]
"""Sends a statement over Django's connection."""


def by_statement(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def by_procedure(connection: Any, sql: str) -> None:
    """Out of sight: nobody who reads the statements sees more than a CALL."""
    with connection.cursor() as cursor:
        cursor.callproc("contend", [sql])


def time_out(connection: Any, write: Write = by_statement) -> None:
    """Wait in vain for a row that another session has locked (1205)."""
    with another(connection) as other, other.cursor() as cursor:
        row, _ = _new_rows(cursor)
        cursor.execute("START TRANSACTION")
        cursor.execute(WRITE.format(row))
        limit = "SET STATEMENT innodb_lock_wait_timeout = 0 FOR "
        _swallow(connection, limit + WRITE.format(row), write)


def be_outrun(connection: Any, write: Write = by_statement) -> None:
    """Write to a row that has changed since the snapshot (1020).

    An error with `innodb_snapshot_isolation` alone, at REPEATABLE READ.
    """
    with another(connection) as other, other.cursor() as cursor:
        row, _ = _new_rows(cursor)
        by_statement(connection, "SELECT max(id) FROM contended")
        cursor.execute(WRITE.format(row))
        _swallow(connection, WRITE.format(row), write)


def be_the_victim(connection: Any, write: Write = by_statement) -> None:
    """Lose in a deadlock (1213)."""
    with another(connection) as other, other.cursor() as cursor:
        ours, theirs = _new_rows(cursor)
        cursor.execute("START TRANSACTION")
        # Its many writes make it the one that InnoDB would rather not roll back.
        cursor.execute("INSERT INTO contended (n) SELECT seq FROM seq_1_to_50")
        cursor.execute(WRITE.format(theirs))
        by_statement(connection, WRITE.format(ours))
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(cursor.execute, WRITE.format(ours))
            _wait_until_it_waits(connection, other.thread_id())
            _swallow(connection, WRITE.format(theirs), write)
            waiting.result()


@contextmanager
def another(connection: Any) -> Iterator[Any]:
    """Another session of the driver's, past Django, at the same database."""
    session = connection.get_new_connection(connection.get_connection_params())
    with closing(session):
        session.autocommit(True)
        yield session


def _new_rows(cursor: Any) -> tuple[int, int]:
    cursor.execute(
        "CREATE TABLE IF NOT EXISTS contended"
        " (id INT AUTO_INCREMENT PRIMARY KEY, n INT NOT NULL) ENGINE = InnoDB"
    )
    cursor.execute(
        "CREATE PROCEDURE IF NOT EXISTS contend(IN wanted TEXT) EXECUTE IMMEDIATE wanted"
    )
    cursor.execute("INSERT INTO contended (n) VALUES (0), (0)")
    first: int = cursor.lastrowid
    return first, first + 1


def _swallow(connection: Any, sql: str, write: Write) -> None:
    with suppress(OperationalError):
        write(connection, sql)


def _wait_until_it_waits(connection: Any, session: int) -> None:
    waits = (
        "SELECT 1 FROM information_schema.innodb_trx"
        " WHERE trx_state = 'LOCK WAIT' AND trx_mysql_thread_id = %s"
    )
    with another(connection) as third, third.cursor() as cursor:
        while not cursor.execute(waits, [session]):
            # The server makes this table anew only if nobody has read it for 0.1 seconds.
            time.sleep(0.11)
