"""All queries about intents: who was the first to ask for something.

The verbs run in whatever transaction is open on the alias.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import cache

from django.db import connections
from django.db.models import QuerySet

from django_idempotency.core.intents import FirstView
from django_idempotency.core.links import LinkKind
from django_idempotency.core.operations import Operation
from django_idempotency.models import (
    IdempotencyRecord,
    OperationIntent,
    OperationLink,
)

from .dialects import dialect_of
from .dialects.base import Dialect
from .rows import ID, Parameters, db_id, fetched, insert_first, lock


class IntentStatements:
    """The statements on `OperationIntent`."""

    def __init__(self, dialect: Dialect) -> None:
        table, records = (
            OperationIntent._meta.db_table,
            IdempotencyRecord._meta.db_table,
        )
        retained = dialect.later("retention")
        fresh = {
            "id": "%(id)s",
            "first_id": "%(first_id)s",
            "created_at": dialect.now,
            "expires_at": retained,
        }
        self.claim = dialect.streamed(dialect.insert_bounded(table, fresh, "first_id"))
        self.renew = dialect.streamed(
            f"UPDATE {table} SET first_id = %(first_id)s,"
            f" confirmed_id = %(confirmed_id)s, created_at = {dialect.now},"
            f" expires_at = {retained} WHERE id = %(id)s"
        )
        self.read = f"SELECT first_id, confirmed_id FROM {table} WHERE id = %(id)s"
        self.read_newest = f"{self.read}{dialect.newest}"
        since = dialect.seconds_until("COALESCE(completed_at, created_at)")
        self.read_first = (
            f"SELECT state, COALESCE(response_status, 0), {since},"
            f" {dialect.seconds_until('lease_expires_at')},"
            f" effects LIKE '{{\"steps\"%%' FROM {records} WHERE id = %(id)s"
        )
        self.read_first_newest = f"{self.read_first}{dialect.newest}"
        expired = f"expires_at <= {dialect.cutoff}"
        self.count_expired = f"SELECT count(*) FROM {table} WHERE {expired}"
        self.purge = dialect.delete_batch(table, expired)


@cache
def intent_statements(dialect: Dialect) -> IntentStatements:
    return IntentStatements(dialect)


def claim(operation: Operation, *, wait: timedelta) -> None:
    """Be the first, waiting for whoever is just about to be.

    Raises:
        ClaimConflict: a committed row is there. Roll back before anything else.
        ClaimBusy: there may be one, and this kind of database doesn't wait here.
    """
    statement = _statements(operation.using).claim
    insert_first(statement, _own(operation), operation.intent_id, operation.using, wait)


def lock_row(operation: Operation, *, wait: timedelta) -> None:
    lock(OperationIntent, operation.intent_id, using=operation.using, wait=wait)


def renew(operation: Operation, confirmed_id: uuid.UUID | None) -> bool:
    """Be the first of a new time, in the locked row; return whether it was there.

    `confirmed_id` is the record of the one beside which this one is meant.
    """
    using = operation.using
    confirmed = None if confirmed_id is None else db_id(confirmed_id, using)
    values = {**_own(operation), "confirmed_id": confirmed}
    with connections[using].cursor() as cursor:
        cursor.execute(_statements(using).renew, values)
        is_there: bool = cursor.rowcount == 1
        return is_there


def _own(operation: Operation) -> Parameters:
    using = operation.using
    return {
        "id": db_id(operation.intent_id, using),
        "first_id": db_id(operation.record_id, using),
        "retention": operation.retention.total_seconds(),
    }


def read(operation: Operation) -> list[uuid.UUID] | None:
    """Return the records of the first one and, if any, of the one it was meant beside.

    Nothing may be left of either. ``None``: nobody has asked for it.
    """
    using = operation.using
    statements = _statements(using)
    newest = connections[using].in_atomic_block
    statement = statements.read_newest if newest else statements.read
    row = fetched(statement, {"id": db_id(operation.intent_id, using)}, using)
    return None if row is None else [_uuid(each) for each in row if each is not None]


def read_first(record_id: uuid.UUID, *, using: str) -> FirstView | None:
    """Return how the first one stands; ``None`` if its record is gone."""
    statements = _statements(using)
    newest = connections[using].in_atomic_block
    statement = statements.read_first_newest if newest else statements.read_first
    row = fetched(statement, {"id": db_id(record_id, using)}, using)
    if row is None:
        return None
    state, status, since, left, has_steps = row
    return FirstView(
        record_id=record_id,
        state=state,
        status=status,
        age=timedelta(seconds=-float(since)),
        lease_left=None if left is None else timedelta(seconds=float(left)),
        has_steps=bool(has_steps),
    )


def label_of(record_id: uuid.UUID, *, using: str) -> str:
    """Return what the record calls its object, if it names one."""
    # Not by a manager: a project's own could join tables in.
    links: QuerySet[OperationLink] = QuerySet(OperationLink, using=using)
    of_row = links.filter(row_id=record_id, kind=LinkKind.OBJECT)
    labels = of_row.exclude(label="").order_by("created_at")
    return labels.values_list("label", flat=True).first() or ""


def _uuid(value: object) -> uuid.UUID:
    made: uuid.UUID = ID.to_python(value)
    return made


def _statements(using: str) -> IntentStatements:
    return intent_statements(dialect_of(connections[using]))
