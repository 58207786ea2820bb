"""What only a server of MariaDB can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.conf import conf
from django_idempotency.core import at_rest
from django_idempotency.store.dialects.mariadb import ROOM

from .urls import endpoints_in_urls


def check_mariadb(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper, tables: list[str]
) -> Iterator[CheckMessage]:
    """Check the tables, the limits and the logs of a server with our tables."""
    yield from _tables_can_roll_back(connection, tables)
    yield from _projects_tables_can_roll_back(connection, tables)
    yield from _columns_hold_any_text(connection, tables)
    yield from _bodies_fit_into_a_packet(connection)
    yield from _purge_can_be_logged(connection)
    yield from _idle_transactions_end(connection)


def never_gives_up(connection: BaseDatabaseWrapper) -> str:
    return (
        f"Database {connection.alias!r} should end transactions whose client has gone "
        "silent: without a time-out, the keys of a lost host or a frozen worker stay "
        "claimed."
    )


def _tables_can_roll_back(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper, tables: list[str]
) -> Iterator[CheckMessage]:
    found = _asked(
        connection,
        "SELECT table_name, engine FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name IN %s"
        " AND engine <> 'InnoDB' ORDER BY table_name",
        tables,
    )
    for table, engine in found:
        yield Error(
            f"Table {table} must use the engine InnoDB, not {engine}, which has no "
            "transactions: a claim would stay when its view fails, and copies would "
            "not wait for it.",
            hint=f"ALTER TABLE {table} ENGINE = InnoDB;",
            id="django_idempotency.E017",
        )


def _projects_tables_can_roll_back(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper, ours: list[str]
) -> Iterator[CheckMessage]:
    """A view's writes to such a table stay when the view fails, and are done again."""
    written = {
        model._meta.db_table
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed
        and not model._meta.proxy
        and router.db_for_write(model) == connection.alias
    }
    if not (theirs := sorted(written - {*ours})):
        return
    found = _asked(
        connection,
        "SELECT table_name FROM information_schema.tables"
        " WHERE table_schema = DATABASE() AND table_name IN %s"
        " AND engine IN ('Aria', 'MyISAM') ORDER BY table_name",
        theirs,
    )
    if names := [table for (table,) in found]:
        yield Warning(
            f"What a protected view writes to {', '.join(names)} can't be rolled back: "
            "the engine has no transactions, so it stays when the view fails, and a "
            "retry writes it again.",
            hint="\n".join(f"ALTER TABLE {table} ENGINE = InnoDB;" for table in names),
            id="django_idempotency.W040",
        )


def _columns_hold_any_text(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper, tables: list[str]
) -> Iterator[CheckMessage]:
    found = _asked(
        connection,
        "SELECT DISTINCT table_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name IN %s"
        " AND collation_name NOT LIKE 'utf8mb4%%bin' ORDER BY table_name",
        tables,
    )
    ((client,),) = _asked(connection, "SELECT @@character_set_client")
    for (table,) in found:
        yield Error(
            f"Table {table} must hold any text and compare it exactly: a key whose path "
            "has other letters would be refused or lost, and two ids could be one.",
            hint=f"ALTER TABLE {table} CONVERT TO CHARACTER SET utf8mb4"
            " COLLATE utf8mb4_nopad_bin;",
            id="django_idempotency.E019",
        )
    if client != "utf8mb4":
        yield Error(
            f"Connections to database {connection.alias!r} must carry any text, not that "
            f"of {client} alone: a key whose path has other letters would be refused or "
            "lost.",
            hint=f"In DATABASES[{connection.alias!r}]:\n\n"
            '    "OPTIONS": {"charset": "utf8mb4"},',
            id="django_idempotency.E019",
        )


def _bodies_fit_into_a_packet(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    wanted = {"IDEMPOTENCY_MAX_BODY": conf.IDEMPOTENCY_MAX_BODY}
    for endpoint in endpoints_in_urls():
        name = f"the longest payload of the webhook {endpoint.name!r}"
        wanted[name] = endpoint.profile.max_body
    what, longest = max(wanted.items(), key=lambda each: each[1])
    with suppress(ImproperlyConfigured):  # which another check reports
        longest = at_rest.longest(longest)
    ((limit,),) = _asked(connection, "SELECT @@max_allowed_packet")
    if limit < longest + ROOM:
        mebibytes = -(-2 * (longest + ROOM) // 2**20)
        yield Warning(
            f"Database {connection.alias!r} should take what is to be stored: its "
            f"max_allowed_packet is {limit} bytes, and {what} is {longest}. A longer "
            "answer is kept without its body, and a longer payload isn't stored.",
            hint="Some bytes take two in a statement. Put it into the server's "
            "configuration as well, or choose less:\n\n"
            f"    SET GLOBAL max_allowed_packet = {mebibytes} * 1024 * 1024;",
            id="django_idempotency.W041",
        )


def _purge_can_be_logged(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    ((is_logged, form),) = _asked(connection, "SELECT @@log_bin, @@binlog_format")
    if is_logged and form == "STATEMENT":
        yield Warning(
            f"Database {connection.alias!r} should not log statements: with binlog_format "
            "= STATEMENT it refuses every write at READ COMMITTED, which is Django's "
            "default and the purge's level, and a replica may purge other rows.",
            hint="Put it into the server's configuration as well:\n\n"
            "    SET GLOBAL binlog_format = 'MIXED';",
            id="django_idempotency.W042",
        )


def _idle_transactions_end(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    ((seconds,),) = _asked(connection, "SELECT @@idle_transaction_timeout")
    if seconds == 0:
        yield Warning(
            never_gives_up(connection),
            hint="Choose a time above your slowest view, and put it into the server's "
            "configuration as well:\n\n"
            "    SET GLOBAL idle_transaction_timeout = 60;",
            id="django_idempotency.W015",
        )


def _asked(  # pragma: no cover - MariaDB
    connection: BaseDatabaseWrapper, sql: str, *parameters: Any
) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())
