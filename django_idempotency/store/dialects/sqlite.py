"""SQLite, where one write lock covers the whole database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import Error, OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from .base import Dialect, Trouble, milliseconds


class SQLite(Dialect):
    # In the form in which Django writes timestamps, so that they sort as text.
    now = "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now')"
    statement_began = now
    claimed_state = "STATE"

    def later(self, parameter: str) -> str:
        return f"strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', %({parameter})s || ' seconds')"

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

    def is_open(self, connection: Any) -> bool:
        # Not after a script, a trigger's ROLLBACK or the driver's own commit.
        driver = connection.connection
        return driver is None or bool(driver.in_transaction)

    def is_unmarked(self, error: Error) -> bool:
        return "no such savepoint" in str(error)

    def trouble(self, error: Error) -> Trouble | None:
        text = str(error)
        if "is locked" in text:
            return Trouble.TIMED_OUT
        if "no such table" in text:
            return Trouble.NO_TABLE
        return Trouble.UNAVAILABLE if isinstance(error, OperationalError) else None
