"""What a database says of itself and of what is between: for `idempotency_doctor`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import Error, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model, QuerySet

from django_idempotency.fields import UtcNow
from django_idempotency.models import (
    IdempotencyRecord,
    OperationIntent,
    OperationLink,
    ProcessedEvent,
)

MODELS: tuple[type[Model], ...] = (
    *(IdempotencyRecord, ProcessedEvent),
    *(OperationLink, OperationIntent),
)

ISOLATION = {
    "postgresql": "SHOW transaction_isolation",
    # It has another name from 11.1 on.
    "mysql": "SELECT variable_value FROM information_schema.session_variables"
    " WHERE variable_name IN ('tx_isolation', 'transaction_isolation') LIMIT 1",
}
CLOCK = {
    "postgresql": "SELECT extract(epoch FROM clock_timestamp())",
    "mysql": "SELECT UNIX_TIMESTAMP(NOW(6))",
}
BACKEND = "SELECT pg_backend_pid()"
UPDATES = (
    "SELECT coalesce(sum(n_tup_upd), 0), coalesce(sum(n_tup_hot_upd), 0)"
    " FROM pg_stat_all_tables WHERE relid IN"
    " (SELECT relid FROM pg_partition_tree(%s::regclass)"
    " UNION SELECT %s::regclass)"
)


def isolation_level(using: str) -> str | None:
    """Return the level of Django's transactions; ``None``: there is only one."""
    connection = connections[using]
    if connection.vendor not in ISOLATION:
        return None
    # Django sets it for its transactions, not for the session.
    with transaction.atomic(using=using):
        level = str(_value(connection, ISOLATION[connection.vendor]))
    return level.lower().replace("-", " ")


def clock_is_ahead(using: str) -> timedelta | None:
    """Return by how much, of this host's; ``None``: there is no other clock."""
    connection = connections[using]
    if connection.vendor not in CLOCK:
        return None
    before = time.time()
    server = float(_value(connection, CLOCK[connection.vendor]))
    after = time.time()
    return timedelta(seconds=server - (before + after) / 2)


def updates_on_page(using: str) -> tuple[int, int] | None:
    """Return the updates of records and how many were HOT, by PostgreSQL's own count."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return None
    table = IdempotencyRecord._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(UPDATES, [table, table])
        updates, hot = cursor.fetchone()
    return int(updates), int(hot)


def session_is_shared(using: str) -> bool | None:
    """Whether the server's process changes between two statements of one connection.

    ``None``: this kind of database has no such poolers.
    """
    connection = connections[using]
    if connection.vendor != "postgresql":
        return None
    mine = connection.copy()
    others = [connection.copy() for _ in range(2)]
    try:
        first = _value(mine, BACKEND)
        for other in others:
            # While it is in a transaction, a pooler in transaction mode gives it the
            # process that has served us last.
            other.set_autocommit(False)
            _value(other, BACKEND)
            if _value(mine, BACKEND) != first:
                return True
        return False
    finally:
        for each in (mine, *others):
            with suppress(Error):
                each.close()


def refused_verbs(using: str) -> Iterator[str]:
    """Do what each verb does, to a row of no one, and roll it back; name the refused."""
    with transaction.atomic(using=using):
        for model in MODELS:
            for verb, act in _verbs(model, using).items():
                try:
                    with transaction.atomic(using=using):
                        act()
                except Error as error:
                    reason = " ".join(str(error).split())
                    yield f"{verb} ON {model._meta.db_table} ({reason})"
        transaction.set_rollback(True, using=using)


def _verbs(model: type[Model], using: str) -> dict[str, Callable[[], object]]:
    row_id = uuid.uuid4()
    rows: QuerySet[Any] = QuerySet(model, using=using)
    own = rows.filter(pk=row_id)
    names = {field.name for field in model._meta.get_fields()}
    moments = names & {"created_at", "received_at", "expires_at"}
    others: dict[type[Model], dict[str, Any]] = {
        IdempotencyRecord: {"state": "released"},
        ProcessedEvent: {"state": "processed"},
        OperationLink: {"row_id": row_id},
        OperationIntent: {"first_id": row_id},
    }
    columns = {**dict.fromkeys(moments, UtcNow()), **others[model]}
    return {
        "SELECT": own.exists,
        "INSERT": lambda: rows.bulk_create([model(pk=row_id, **columns)]),
        "UPDATE": lambda: own.update(expires_at=UtcNow()),
        "DELETE": lambda: own._raw_delete(using),
    }


def _value(connection: BaseDatabaseWrapper, statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]
