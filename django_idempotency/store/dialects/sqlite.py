"""SQLite, where one write lock covers the whole database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.core.history import MOST_NOTES, Happening

from .base import Dialect, Trouble, milliseconds


class SQLite(Dialect):
    # In the form in which Django writes timestamps, so that they sort as text.
    now = "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now')"
    statement_began = now
    one_lock = True
    brief_wait = timedelta(seconds=1)
    largest_batch = 500
    # Who waits for the write lock looks for it every 0.1 seconds at the latest, and in no
    # order: a purge that took it again at once would keep them waiting until its end.
    rest_after_batch = timedelta(milliseconds=110)

    LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
    TAKEN = frozenset(
        {
            sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY,
            sqlite3.SQLITE_CONSTRAINT_ROWID,
            sqlite3.SQLITE_CONSTRAINT_UNIQUE,
        }
    )
    NOT_WRITABLE = frozenset(
        {
            sqlite3.SQLITE_CANTOPEN,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_PERM,
            sqlite3.SQLITE_PROTOCOL,
            sqlite3.SQLITE_READONLY,
        }
    )
    UNKNOWN_NAMES = ("no such table", "no such column", "has no column named")

    def later(self, parameter: str) -> str:
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', %({parameter})s || ' seconds')"

    def appended(self, column: str, parameter: str) -> str:
        return (
            f"json_insert(CASE WHEN json_array_length({column}) < {MOST_NOTES}"
            f" THEN {column} ELSE json_remove({column}, '$[1]') END,"
            f" '$[#]', json(%({parameter})s))"
        )

    def noted_end(self, column: str) -> str:
        return (
            f"json_array(json_object('what', '{Happening.EXPIRED}', 'at',"
            f" {column} || '+00:00'))"
        )

    def epoch(self, column: str) -> str:
        return f"CAST(strftime('%%s', {column}) AS INTEGER)"

    def seconds_until(self, column: str) -> str:
        return f"(julianday({column}) - julianday('now')) * 86400.0"

    # The write lock covers the whole database, and BEGIN IMMEDIATE takes it.
    @contextmanager
    def opening(
        self, connection: BaseDatabaseWrapper, wait: timedelta
    ) -> Iterator[None]:
        connection.ensure_connection()
        execute = connection.connection.execute
        previous = execute("PRAGMA busy_timeout").fetchone()[0]
        execute(f"PRAGMA busy_timeout = {milliseconds(wait)}")
        try:
            yield
        finally:
            execute(f"PRAGMA busy_timeout = {previous}")

    # Without a journal of its own (WAL), a reader waits while somebody commits, and for
    # the whole of a transaction that began as EXCLUSIVE.
    looking = opening

    def is_open(self, connection: Any) -> bool:
        # Not after a script, a trigger's ROLLBACK or the driver's own commit.
        driver = connection.connection
        return driver is None or bool(driver.in_transaction)

    def is_unmarked(self, error: Error) -> bool:
        return "no such savepoint" in str(error)  # pragma: no cover - SQLite

    def trouble(self, error: Error) -> Trouble | None:
        extended = getattr(error.__cause__, "sqlite_errorcode", None)
        code = None if extended is None else extended & 0xFF
        if code in self.LOCKED:
            return Trouble.BUSY
        if code in self.NOT_WRITABLE:
            return Trouble.UNAVAILABLE
        if extended in self.TAKEN:  # pragma: no cover - SQLite
            return Trouble.TAKEN
        is_unknown = any(text in str(error) for text in self.UNKNOWN_NAMES)
        return Trouble.NOT_MIGRATED if is_unknown else None
