"""All queries about links: what an operation is found by, beside its own key.

The verbs run in whatever transaction is open on the alias.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from typing import Any

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from django_idempotency.core import at_rest
from django_idempotency.core.decisions import RecordState
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.fields import UtcNow
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent

from .dialects import dialect_of
from .dialects.base import Dialect
from .purging import Purge, WhenBusy, cutoff, insisted
from .rows import Parameters, db_id, storable

LONGEST_AMOUNT = 64
LONGEST = 255
OF_EACH = ("id", "kind", "value", "label", "amount", "result")
TIMES = ("created_at", "expires_at")
AT_ONCE = 500
"""Rows of a purge's batch; SQLite takes a thousand parameters."""


def add(
    links: Iterable[Link], row_id: uuid.UUID, *, retention: timedelta, using: str
) -> None:
    """Let the row be found by these; a link that is there gets its newest label."""
    parameters: Parameters = {
        "row_id": db_id(row_id, using),
        "retention": retention.total_seconds(),
    }
    count = 0
    for count, link in enumerate(links, 1):
        values = (
            db_id(link.id_for(row_id), using),
            link.kind.value,
            storable(link.value)[:LONGEST],
            storable(link.label)[:LONGEST],
            storable(link.amount)[:LONGEST_AMOUNT],
            _stored_result(link, row_id),
        )
        for name, value in zip(OF_EACH, values, strict=True):
            parameters[f"{name}_{count}"] = value
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(_addition(dialect_of(connection), count), parameters)


@cache
def _addition(dialect: Dialect, count: int) -> str:
    # Not the ORM, which would build it anew in each step of an operation.
    table = OperationLink._meta.db_table
    columns = ", ".join(map(dialect.quoted, (*OF_EACH, "row_id", *TIMES)))
    of_all = f"%(row_id)s, {dialect.now}, {dialect.later('retention')}"
    rows = ", ".join(
        f"({', '.join(f'%({name}_{number})s' for name in OF_EACH)}, {of_all})"
        for number in range(1, count + 1)
    )
    newest = dialect.replacing(("label", "amount", "result", "expires_at"))
    return f"INSERT INTO {table} ({columns}) VALUES {rows} {newest}"  # noqa: S608


def _stored_result(link: Link, row_id: uuid.UUID) -> str:
    if not link.result:
        return ""
    return at_rest.stored_text(link.result, at_rest.of_word(link.id_for(row_id)))


def result_of(word: OperationLink) -> Any:
    """Return what the word says that the call has returned.

    Raises:
        Undecodable
    """
    return json.loads(at_rest.read_text(word.result, at_rest.of_word(word.pk)))


def of_row(row_id: uuid.UUID, *, using: str) -> list[OperationLink]:
    """Return what the record or event is found by, in the order in which it was added."""
    return list(_rows(using).filter(row_id=row_id).order_by("created_at", "kind"))


def label_of(step: str) -> str:
    """Return a step's name as its links have it."""
    return storable(step)[:LONGEST]


def words_on(row_id: uuid.UUID, *, using: str) -> list[OperationLink]:
    """Return what the other side has told of this record's calls, in this life of it.

    Past its retention a key is another operation, in the same row.
    """
    record: QuerySet[Any] = QuerySet(IdempotencyRecord, using=using).filter(pk=row_id)
    began = Subquery(record.values("created_at"))
    words = _rows(using).filter(row_id=row_id, kind=LinkKind.WORD)
    return list(words.filter(created_at__gte=began).order_by("created_at"))


def rows_with(
    value: str,
    *,
    using: str,
    kind: LinkKind | None = None,
    label: str | None = None,
    most: int = 100,
) -> list[uuid.UUID]:
    """Return the ids of the records and events that are found by this value."""
    found = _rows(using).filter(value=storable(value)[:LONGEST])
    if kind is not None:
        found = found.filter(kind=kind)
    if label is not None:
        found = found.filter(label=storable(label)[:LONGEST])
    return list(found.values_list("row_id", flat=True)[:most])


def remove(row_id: uuid.UUID, *, using: str) -> None:
    """Let the record or event be found by nothing but its own key."""
    _rows(using).filter(row_id=row_id).delete()


def rows_with_any(
    values: Iterable[str], *, using: str, most: int = 100
) -> list[uuid.UUID]:
    """Return the ids of the records and events that are found by one of these."""
    wanted = sorted({storable(value)[:LONGEST] for value in values})
    found = _rows(using).filter(value__in=wanted)
    return list(found.values_list("row_id", flat=True)[:most])


def values_of(
    row_ids: Iterable[uuid.UUID], *, using: str, most: int = 500
) -> list[str]:
    """Return all that these records and events are found by."""
    found = _rows(using).filter(row_id__in=list(row_ids))
    return list(found.values_list("value", flat=True)[:most])


def _rows(using: str) -> QuerySet[OperationLink]:
    # Not by a manager: a project's own could join tables in.
    return QuerySet(OperationLink, using=using)


@dataclass(frozen=True, slots=True)
class LinkPurge:
    """The links of rows that are gone, or tombstones, expired for `for_at_least` or longer."""

    using: str
    for_at_least: timedelta
    when_busy: WhenBusy = None

    def count(self) -> int:
        if apart := self._apart():
            return apart.count()
        return insisted(self._expired().count, self.using, self.when_busy)

    def batches(self, size: int) -> Iterator[int]:
        """Delete at most `size` at a time; yield each batch's number.

        As in `Purge.batches`, each is committed, and locked rows are skipped: they may be
        links that an operation adds anew.
        """
        if apart := self._apart():
            yield from apart.batches(min(size, AT_ONCE))
            return
        delete = partial(self._delete, min(size, AT_ONCE))
        while deleted := insisted(delete, self.using, self.when_busy):
            yield deleted

    def _delete(self, size: int) -> int:
        connection = connections[self.using]
        is_ours = not connection.in_atomic_block
        with transaction.atomic(using=self.using):
            if is_ours and (level := dialect_of(connection).read_committed):
                with connection.cursor() as cursor:
                    cursor.execute(level)
            oldest = self._expired().order_by("expires_at")
            free = oldest.select_for_update(skip_locked=True)
            ids = list(free.values_list("pk", flat=True)[:size])
            _rows(self.using).filter(pk__in=ids).delete()
        return len(ids)

    def _apart(self) -> Purge | None:
        """The same, step by step, where tables are spread and can't be joined by this."""
        dialect = dialect_of(connections[self.using])
        if dialect.locks_what_it_finds:
            return None
        expired = f"expires_at <= {dialect.cutoff}"
        return Purge(
            using=self.using,
            counting="",
            acting=dialect.delete_batch(OperationLink._meta.db_table, expired),
            cutoff=cutoff(self.using, self.for_at_least, self.when_busy),
            when_busy=self.when_busy,
            sieve=self._of_nobody,
        )

    def _of_nobody(self, ids: Collection[uuid.UUID]) -> Collection[uuid.UUID]:
        links = _rows(self.using).filter(pk__in=ids)
        owners = dict(links.values_list("pk", "row_id"))
        living = {
            row_id
            for rows in _living(self.using)
            for row_id in rows.filter(pk__in=owners.values()).values_list(
                "pk", flat=True
            )
        }
        return [link for link, owner in owners.items() if owner not in living]

    def _expired(self) -> QuerySet[OperationLink]:
        gone = _rows(self.using).filter(expires_at__lte=UtcNow() - self.for_at_least)
        for rows in _living(self.using):
            gone = gone.exclude(Exists(rows.filter(pk=OuterRef("row_id"))))
        return gone


def _living(using: str) -> Iterator[QuerySet[Any]]:
    """The rows that keep their links.

    A record that is held, and an event that is dead, outlive their retention; what a
    tombstone was about is gone with its answer.
    """
    for model in (IdempotencyRecord, ProcessedEvent):
        rows: QuerySet[Any] = QuerySet(model, using=using)
        yield rows.exclude(state=RecordState.EXPIRED)
