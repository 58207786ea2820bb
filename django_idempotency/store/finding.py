"""Finds operations and events by what people have of them; each way goes by an index."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.db.models import Model, QuerySet

from django_idempotency.models import IdempotencyRecord, ProcessedEvent

from . import links
from .events import event_alias
from .records import record_alias
from .rows import storable

MOST = 50
REFERENCE = re.compile(r"([0-9A-F]{4})-?([0-9A-F]{4})", re.IGNORECASE)

HEAVY = ("response_body", "response_headers", "payload", "headers", "occurred_at")
"""What a story needs nothing of: it can have megabytes, or be no date in Python."""

Row = IdempotencyRecord | ProcessedEvent


def find(text: str) -> list[Row]:
    """Return the operations and events that somebody may mean by this, newest first.

    It is a client's key; the id of a row, or its reference; a provider's id of an event
    or an object; or what an operation is about, such as ``shop.order:7``, the key of one
    of its calls, or what the other side calls that.
    """
    ids = {*_row_ids(text)}
    records = _rows(IdempotencyRecord, record_alias())
    events = _rows(ProcessedEvent, event_alias())
    stored = storable(text)
    found: list[Row] = [
        *records.filter(pk__in=ids)[:MOST],
        *events.filter(pk__in=ids)[:MOST],
        *records.filter(key=stored)[:MOST],
        *events.filter(event_id=stored)[:MOST],
        *events.filter(object_key=stored)[:MOST],
    ]
    if reference := REFERENCE.fullmatch(text):
        first = "".join(reference.groups())
        ends = uuid.UUID(first + "0" * 24), uuid.UUID(first + "f" * 24)
        found += records.filter(pk__range=ends)[:MOST]
        found += events.filter(pk__range=ends)[:MOST]
    once = {row.pk: row for row in found}
    return sorted(once.values(), key=_began, reverse=True)


def _row_ids(text: str) -> list[uuid.UUID]:
    label, colon, pk = text.partition(":")
    values = {text, f"{label.lower()}{colon}{pk}"}
    ids = [
        row_id
        for value in values
        for row_id in links.rows_with(value, using=record_alias(), most=MOST)
    ]
    try:
        return [*ids, uuid.UUID(text)]
    except ValueError:
        return ids


def _rows(model: type[Model], using: str) -> QuerySet[Any]:
    # Not by a manager: a project's own could join tables in.
    names = {field.name for field in model._meta.get_fields()}
    return QuerySet(model, using=using).defer(*names.intersection(HEAVY))


def _began(row: Row) -> Any:
    return row.created_at if isinstance(row, IdempotencyRecord) else row.received_at
