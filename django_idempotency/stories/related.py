"""What belongs to a row: found by indexes, from its links and from what it says itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import router
from django.db.models import Model, Q, QuerySet

from django_idempotency.core.links import LinkKind
from django_idempotency.http.requests import ANONYMOUS
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.store.links import of_row, rows_with_any

MOST = 20
"""Events or operations that are listed."""
LONGEST_ID = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """What belongs to a record or an event, which isn't among it."""

    links: list[OperationLink]
    events: list[ProcessedEvent]
    records: list[IdempotencyRecord]


def related_to_record(record: IdempotencyRecord) -> Related:
    links = of_row(record.pk, using=str(record._state.db))
    # What else a customer has done doesn't belong to it.
    values = {link.value for link in links if not is_customer(link, record)}
    values |= ids_in(record.steps)
    others = _others_with(values, record)
    # The events by which the provider has told what became of a call.
    words = {link.value for link in links if link.kind == LinkKind.WORD}
    return Related(
        links=links,
        events=_events_of(values - words, others, names=words),
        records=_records_of(others, using=record._state.db),
    )


def related_to_event(event: ProcessedEvent) -> Related:
    links = of_row(event.pk, using=str(event._state.db))
    values = {link.value for link in links}
    values |= {each for each in (event.object_key, event.event_id) if each}
    others = _others_with(values, event)
    return Related(
        links=links,
        events=_events_of({event.object_key} - {""}, others, but=event.pk),
        records=_records_of(others, using=router.db_for_read(IdempotencyRecord)),
    )


def links_of(rows: Iterable[Model]) -> Mapping[Any, list[OperationLink]]:
    """Return what each of these is found by, in one query a database."""
    found: dict[Any, list[OperationLink]] = defaultdict(list)
    ids: dict[str, list[Any]] = defaultdict(list)
    for row in rows:
        ids[str(row._state.db)].append(row.pk)
    for using, row_ids in ids.items():
        links: QuerySet[OperationLink] = QuerySet(OperationLink, using=using)
        for link in links.filter(row_id__in=row_ids).order_by("created_at", "kind"):
            found[link.row_id].append(link)
    return found


def principal_of(record: IdempotencyRecord) -> str:
    return record.scope.removesuffix(f"|{record.method}|{record.path}")


def is_customer(link: OperationLink, record: IdempotencyRecord) -> bool:
    """Whether what an operation is about is whose it is."""
    return link.value.lower() == principal_of(record).lower()


def is_guests(record: IdempotencyRecord) -> bool:
    return principal_of(record).endswith(ANONYMOUS)


def ids_in(steps: Iterable[dict[str, Any]]) -> set[str]:
    """Return what steps have returned that may be an id at the provider."""
    found: set[str] = set()
    for step in steps:
        result = step.get("result")
        if isinstance(result, str):
            found.add(result)
        elif isinstance(result, dict):
            found.update(
                each
                for name, each in result.items()
                if isinstance(each, str) and name.lower().endswith("id")
            )
    return {each for each in found if 2 < len(each) <= LONGEST_ID}


def _others_with(values: Iterable[str], row: Model) -> set[Any]:
    """Return the ids of the other rows that are found by one of these."""
    found = rows_with_any(values, using=str(row._state.db))
    return set(found) - {row.pk}


def _events_of(
    values: Iterable[str],
    ids: Iterable[Any],
    *,
    names: Iterable[str] = (),
    but: Any = None,
) -> list[ProcessedEvent]:
    """Return the events about one of these values, of these ids, or called so."""
    values, ids, names = sorted(values), list(ids), sorted(names)
    if not values and not ids and not names:
        return []
    using = router.db_for_read(ProcessedEvent)
    rows: QuerySet[ProcessedEvent] = QuerySet(ProcessedEvent, using=using)
    rows = rows.filter(
        Q(object_key__in=values) | Q(event_id__in=names) | Q(pk__in=ids)
    ).exclude(pk=but)
    unread = ("payload", "headers", "reruns", "history", "occurred_at")
    return list(rows.defer(*unread)[:MOST])


def _records_of(ids: Iterable[Any], *, using: str | None) -> list[IdempotencyRecord]:
    rows: QuerySet[IdempotencyRecord] = QuerySet(IdempotencyRecord, using=using)
    found = rows.filter(pk__in=list(ids)).only("method", "path", "state", "created_at")
    return list(found[:MOST])
