from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.core.checks import CheckMessage, Error, Warning
from django.db import NotSupportedError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store.dialects import dialect_of
from django_idempotency.store.events import event_alias
from django_idempotency.store.records import record_alias

from .distributed import check_distribution, refused_behind_postgresql
from .mariadb import check_mariadb, never_gives_up
from .webhooks import check_backlog


def check_databases(
    app_configs: Collection[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check what can be seen without a connection."""
    return [
        message
        for alias in dict.fromkeys((record_alias(), event_alias()))
        for check in (
            _same_database_as_the_models,
            _supported,
            _sqlite_takes_its_lock_first,
            _prepared_statements_behind_a_pooler,
        )
        for message in check(connections[alias])
    ]


def check_live_databases(
    app_configs: Collection[AppConfig] | None,
    databases: Sequence[str] | None = None,
    **kwargs: Any,
) -> list[CheckMessage]:
    """Check what only the database itself knows, where a check may query it."""
    tables = {
        IdempotencyRecord._meta.db_table: record_alias(),
        ProcessedEvent._meta.db_table: event_alias(),
    }
    return [
        message
        for alias in dict.fromkeys(tables.values())
        if databases and alias in databases
        for message in _check_live(
            connections[alias], [name for name, at in tables.items() if at == alias]
        )
    ]


def _check_live(
    connection: BaseDatabaseWrapper, tables: list[str]
) -> Iterator[CheckMessage]:
    alias = connection.alias
    if unsupported := [*_refused(connection), *_refused_by_version(connection)]:
        yield from unsupported
        return
    with connection.cursor() as cursor:
        existing = connection.introspection.table_names(cursor)
    if missing := [table for table in tables if table not in existing]:
        # Only a warning: migrate runs this check too, and an error would stop it from
        # making the table.
        yield Warning(
            f"Database {alias!r} has no table {' and '.join(missing)}. Without it "
            "nothing can be claimed.",
            hint=f"python manage.py migrate django_idempotency --database {alias}",
            id="django_idempotency.W014",
        )
        return
    if ProcessedEvent._meta.db_table in tables:
        yield from check_backlog(alias)
    if connection.vendor == "postgresql":
        yield from _dead_clients_are_noticed(connection)
        yield from _table_locks_are_bounded(connection)
        yield from _purge_is_allowed(connection, tables)
        yield from check_distribution(connection)
    elif connection.vendor == "mysql":  # pragma: no cover - MariaDB
        yield from check_mariadb(connection, tables)


def _same_database_as_the_models(
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    """A claim in another database can't commit together with the view's writes."""
    aliases = Counter(
        router.db_for_write(model)
        for model in apps.get_models()
        if model._meta.managed
        and not model._meta.proxy
        and model._meta.app_config.name != "django_idempotency"
        and not model.__module__.startswith("django.contrib.")
    )
    if not aliases:
        return
    [(usual, _)] = aliases.most_common(1)
    if usual != connection.alias:
        yield Warning(
            "Idempotency records and webhook events should be written to the same "
            f"database as most models, {usual!r}, not to {connection.alias!r}: a row "
            "and the work that it stands for don't commit together there.",
            hint="In your database router's db_for_write(), return the same alias for "
            f'the app label "django_idempotency" as for your models:\n\n'
            f"    return {usual!r}",
            id="django_idempotency.W010",
        )


def _supported(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    # Only the server knows whether it is MySQL or MariaDB: see check_live_databases.
    if connection.vendor != "mysql":  # pragma: no branch - MariaDB
        yield from _refused(connection)


def _refused(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    try:
        dialect_of(connection)
    except NotSupportedError as error:
        yield Error(
            str(error),
            hint=f"In DATABASES[{connection.alias!r}]:\n\n"
            '    "ENGINE": "django.db.backends.postgresql",',
            id="django_idempotency.E011",
        )


def _refused_by_version(connection: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    if connection.vendor == "postgresql":
        yield from refused_behind_postgresql(connection)


def _sqlite_takes_its_lock_first(
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    if connection.vendor != "sqlite":
        return
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
    if str(mode).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield Warning(
            f"SQLite should begin the transactions of database {connection.alias!r} "
            f"as IMMEDIATE, not as {mode}: a request that reads before it writes fails "
            "at once when another one writes, instead of waiting.",
            hint=f"In DATABASES[{connection.alias!r}]:\n\n"
            '    "OPTIONS": {"transaction_mode": "IMMEDIATE"},',
            id="django_idempotency.W012",
        )


def _prepared_statements_behind_a_pooler(
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    """Disabled server-side cursors are taken as the sign of a transaction pooler."""
    if connection.vendor != "postgresql":
        return
    if not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return
    options = connection.settings_dict["OPTIONS"]
    unsafe = [
        name
        for name in ("prepare_threshold", "options")
        if options.get(name) is not None
    ]
    if unsafe:
        names = " and ".join(repr(name) for name in unsafe)
        yield Warning(
            f"Database {connection.alias!r} disables server-side cursors, as is usual "
            f"behind PgBouncer in transaction mode, so it should not set {names}: the "
            "pooler passes that on to whoever gets the connection next.",
            hint=f"In DATABASES[{connection.alias!r}]['OPTIONS'], remove {names}; set "
            "time-outs on the role instead:\n\n"
            "    ALTER ROLE your_role SET idle_in_transaction_session_timeout = '60s';",
            id="django_idempotency.W013",
        )


def _dead_clients_are_noticed(
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    """A lost host keeps its keys until the server notices that it is gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(current_user),"
            " current_setting('idle_in_transaction_session_timeout'),"
            " current_setting('tcp_user_timeout')"
        )
        role, idle, tcp = cursor.fetchone()
    if idle == "0" and tcp == "0":
        yield Warning(
            never_gives_up(connection),
            hint="Choose a time above your slowest view:\n\n"
            f"    ALTER ROLE {role} SET idle_in_transaction_session_timeout = '60s';\n"
            f"    ALTER ROLE {role} SET tcp_user_timeout = '30s';",
            id="django_idempotency.W015",
        )


def _table_locks_are_bounded(
    connection: BaseDatabaseWrapper,
) -> Iterator[CheckMessage]:
    """A claim bounds its wait for a row; that for the table begins before it can.

    One more statement ahead of it could, and would cost each first request a tenth.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(current_user), current_setting('lock_timeout')"
        )
        role, limit = cursor.fetchone()
    if limit == "0":
        yield Warning(
            f"Database {connection.alias!r} should bound the wait for a lock: while an "
            "ALTER TABLE waits for a long transaction, every request queues behind it, "
            "for longer than IDEMPOTENCY_WAIT.",
            hint=f"    ALTER ROLE {role} SET lock_timeout = '5s';",
            id="django_idempotency.W018",
        )


def _purge_is_allowed(
    connection: BaseDatabaseWrapper, tables: list[str]
) -> Iterator[CheckMessage]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT quote_ident(current_user),"
            " array(SELECT name FROM unnest(%s::text[]) AS name"
            " WHERE NOT has_table_privilege(name, 'DELETE')),"
            " current_setting('transaction_read_only')",
            [tables],
        )
        role, kept, read_only = cursor.fetchone()
    if read_only == "on":
        fault = f"Database {connection.alias!r} is read-only"
        remedy = (
            "Let db_for_write() name the primary, and on it:\n\n"
            f"    ALTER ROLE {role} SET default_transaction_read_only = off;"
        )
    elif kept:
        fault = f"The database user {role} can't delete from {' and '.join(kept)}"
        remedy = f"GRANT DELETE ON {', '.join(kept)} TO {role};"
    else:
        return
    yield Warning(
        f"{fault}: purge_idempotency_keys won't work, and the table will keep growing.",
        hint=remedy,
        id="django_idempotency.W016",
    )
