"""Finds operations and events by whatever people have of them, and always by an index.

What no index could serve isn't looked for.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model, Q, QuerySet

from django_idempotency.core.events import EventIdentity
from django_idempotency.core.operations import TASK, Scope, record_id_of
from django_idempotency.http.boundary import METHODS_WITH_KEYS
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import links
from django_idempotency.store.events import event_alias
from django_idempotency.store.records import record_alias
from django_idempotency.store.rows import storable

MOST = 100
"""Rows that are found by one value."""

HEAVY = ("response_body", "response_headers", "payload", "headers")
"""What a story needs nothing of: it can have megabytes."""

Row = IdempotencyRecord | ProcessedEvent

METHODS = sorted({*METHODS_WITH_KEYS, TASK})
_SCOPE = re.compile(rf"(.+)\|({'|'.join(METHODS)})\|(/.*|)", re.DOTALL)
_REFERENCE = re.compile(r"([0-9a-f]{4})[-\s]?([0-9a-f]{4})", re.I)
_OBJECT = re.compile(r"(\w+\.\w+)(:.+)", re.DOTALL)


@dataclass(frozen=True)
class Search:
    """What is found by one term: each property is a few look-ups by index."""

    term: str
    may_see_users: bool = True
    """Whether a customer's name may tell anything."""

    @property
    def named_records(self) -> set[uuid.UUID]:
        """Operations that are called so themselves."""
        return self._records | self._found_by_link

    @property
    def named_events(self) -> set[uuid.UUID]:
        """Events that are called so themselves."""
        return self._events | self._found_by_link

    def named(self) -> list[Row]:
        """Return the operations and events that are called so, newest first."""
        found = (
            (IdempotencyRecord, self.named_records),
            (ProcessedEvent, self.named_events),
        )
        rows = [row for model, ids in found for row in _light(model, ids)]
        return sorted(rows, key=_began, reverse=True)

    @cached_property
    def records(self) -> set[uuid.UUID]:
        """Operations that are called so, or whose events are."""
        values = set(self._own(self._events))
        values |= set(self._object_keys(self._events))
        found = self._linked(values)
        return self.named_records | found

    @cached_property
    def events(self) -> set[uuid.UUID]:
        """Webhook events that are called so, or that came of such operations."""
        values = self._own(self.named_records)
        by_object = _ids(ProcessedEvent, Q(object_key__in=values)) if values else set()
        return self.named_events | by_object

    @cached_property
    def customer(self) -> Any:
        """The user of this name or address, if one is to be found by an index."""
        # Commands run in projects without users as well.
        if not self.may_see_users or not apps.is_installed("django.contrib.auth"):
            return None
        model: type[Any] = get_user_model()
        columns = {model.USERNAME_FIELD, model.get_email_field_name()}
        for column in sorted(columns):
            if has_index(model, column):
                rows: Any = model._base_manager.filter(**{column: self._stored})
                if (user := rows.first()) is not None:
                    return user
        return None

    @property
    def _stored(self) -> str:
        return storable(self.term)

    @cached_property
    def _records(self) -> set[uuid.UUID]:
        scope_and_key = self._scope_and_key()
        found = set() if scope_and_key is None else {scope_and_key}
        return found | self._by_id(IdempotencyRecord, Q(key=self._stored))

    @cached_property
    def _events(self) -> set[uuid.UUID]:
        found = set() if self._identity is None else {self._identity}
        named = (Q(event_id=self._stored), Q(object_key=self._stored))
        return found | self._by_id(ProcessedEvent, *named)

    @cached_property
    def _found_by_link(self) -> set[uuid.UUID]:
        values = {self.term}
        if match := _OBJECT.fullmatch(self.term):
            values.add(match[1].lower() + match[2])
        if self.customer is not None:
            values.add(f"{self.customer._meta.label_lower}:{self.customer.pk}")
        return self._linked(values)

    def _by_id(self, model: type[Model], *named: Q) -> set[uuid.UUID]:
        """Each in a statement of its own, so that each takes its own index."""
        found = set()
        for condition in named:
            found |= _ids(model, condition)
        with suppress(ValueError):
            found.add(uuid.UUID(self.term))
        if match := _REFERENCE.fullmatch(self.term):
            begin = match[1] + match[2]
            found |= _ids(
                model,
                Q(
                    pk__gte=uuid.UUID(begin + "0" * 24),
                    pk__lte=uuid.UUID(begin + "f" * 24),
                ),
            )
        return found

    def _scope_and_key(self) -> uuid.UUID | None:
        scope, _blank, key = self.term.rpartition(" ")
        parts = _SCOPE.fullmatch(scope)
        if parts is None:
            return None
        principal, method, path = parts.groups()
        return record_id_of(Scope(principal=principal, method=method, path=path), key)

    @property
    def _identity(self) -> uuid.UUID | None:
        parts = self.term.split("|", 3)
        if len(parts) != 4:
            return None
        endpoint, source, account, event_id = parts
        return EventIdentity(
            endpoint=endpoint, source=source, account=account, event_id=event_id
        ).row_id

    def _object_keys(self, events: set[uuid.UUID]) -> Iterable[str]:
        if not events:
            return ()
        rows = _rows(ProcessedEvent).filter(pk__in=events).exclude(object_key="")
        return rows.values_list("object_key", flat=True)

    def _own(self, rows: set[uuid.UUID]) -> list[str]:
        """Return what these are found by, except for whose they are."""
        if not rows:
            return []
        user = f"{get_user_model()._meta.label_lower}:"
        return [
            value
            for alias in _aliases()
            for value in links.values_of(rows, using=alias)
            if not value.startswith(user)
        ]

    def _linked(self, values: Iterable[str]) -> set[uuid.UUID]:
        values = set(values)
        if not values:
            return set()
        return {
            each
            for alias in _aliases()
            for each in links.rows_with_any(values, using=alias, most=MOST)
        }


def _aliases() -> set[str]:
    """Links are where their rows are: where those are written, since replicas lag."""
    return {record_alias(), event_alias()}


def _rows(model: type[Model]) -> QuerySet[Any]:
    is_record = model is IdempotencyRecord
    # Not by a manager: a project's own could join tables in.
    return QuerySet(model, using=record_alias() if is_record else event_alias())


def _light(model: type[Model], ids: set[uuid.UUID]) -> list[Row]:
    names = {field.name for field in model._meta.get_fields()}
    rows = _rows(model).defer(*names.intersection(HEAVY))
    return list(rows.filter(pk__in=ids)[:MOST])


def _began(row: Row) -> Any:
    return row.created_at if isinstance(row, IdempotencyRecord) else row.received_at


def _ids(model: type[Model], condition: Q) -> set[uuid.UUID]:
    return set(_rows(model).filter(condition).values_list("pk", flat=True)[:MOST])


def has_index(model: type[Model], name: str) -> bool:
    try:
        column: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return bool(column.unique or column.db_index)
