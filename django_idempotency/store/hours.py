"""All queries about the counts of hours."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TypeVar

from django.db import connections, transaction
from django.db.models import QuerySet, Sum

from django_idempotency.conf import conf
from django_idempotency.core.amounts import amount_in
from django_idempotency.core.keys import digest_id
from django_idempotency.core.links import LinkKind
from django_idempotency.fields import UtcNow
from django_idempotency.models import HourlyCount, OperationLink, ProcessedEvent

from .dialects import dialect_of
from .purging import WhenBusy, insisted
from .rows import storable

AT_ONCE = 100
"""Rows of a statement; SQLite takes a thousand parameters."""
SUMS = ("count", "waited", "amount")
REQUESTS = (
    *("claimed", "replayed", "in_flight"),
    *("mismatched", "expired", "possible_duplicate"),
)
"""Each request is counted under one of these."""

LONGEST_ENDPOINT = 255

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What is to be added to the count of one hour, endpoint and outcome."""

    hour: int
    """Hours since 1970 began, in UTC."""
    endpoint: str
    outcome: str
    count: int
    waited: float = 0.0
    currency: str = ""
    amount: Decimal = Decimal(0)

    @property
    def row(self) -> HourlyCount:
        endpoint = storable(self.endpoint)[:LONGEST_ENDPOINT]
        return HourlyCount(
            id=digest_id(str(self.hour), endpoint, self.outcome, self.currency),
            hour=datetime.fromtimestamp(self.hour * 3600, UTC),
            endpoint=endpoint,
            outcome=self.outcome,
            currency=self.currency,
            count=self.count,
            waited=self.waited,
            amount=self.amount,
        )


def add(tallies: Iterable[Tally], *, using: str) -> None:
    """Add all of them or, with an error, none."""
    # In one order, so that two processes wait for each other and never deadlock.
    rows = sorted((tally.row for tally in tallies), key=lambda row: row.pk)
    with transaction.atomic(using=using):
        for batch in _batches(rows):
            _add(batch, using)


def _add(rows: Collection[HourlyCount], using: str) -> None:
    connection = connections[using]
    dialect = dialect_of(connection)
    fields = HourlyCount._meta.concrete_fields
    table = HourlyCount._meta.db_table
    columns = ", ".join(dialect.quoted(field.attname) for field in fields)
    row = f"({', '.join(['%s'] * len(fields))})"
    values = [
        field.get_db_prep_save(getattr(each, field.attname), connection)
        for each in rows
        for field in fields
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({columns}) VALUES {', '.join([row] * len(rows))}"  # noqa: S608
            f" {dialect.adding_up(table, SUMS)}",
            values,
        )


def amounts_of(
    record_ids: Collection[uuid.UUID], *, using: str
) -> dict[uuid.UUID, tuple[Decimal, str]]:
    """Return what these operations are about, as far as it is an amount."""
    found: dict[uuid.UUID, tuple[Decimal, str]] = {}
    for ids in _batches(record_ids):
        links: QuerySet[OperationLink] = (
            QuerySet(OperationLink, using=using)
            .filter(row_id__in=ids, kind=LinkKind.OBJECT)
            .exclude(amount="")
            .order_by("created_at", "id")
        )
        for row_id, text in links.values_list("row_id", "amount"):
            # Of an order and its invoice only the first: it is the same money.
            if row_id not in found and (amount := amount_in(text)):
                found[row_id] = amount
    return found


def waits_of(event_ids: Collection[uuid.UUID], *, using: str) -> list[float]:
    """Return how many seconds after its receipt each of these events was done."""
    return [
        max(0.0, (done - received).total_seconds())
        for ids in _batches(event_ids)
        for received, done in QuerySet(ProcessedEvent, using=using)
        .filter(pk__in=ids, processed_at__isnull=False)
        .values_list("received_at", "processed_at")
    ]


@dataclass(frozen=True, slots=True)
class Total:
    """What happened within one hour, at all endpoints."""

    hour: datetime
    outcome: str
    currency: str
    count: int
    waited: float
    amount: Decimal


def totals_since(moment: datetime, *, using: str) -> list[Total]:
    """Return the sums of the hours that begin at or after it; found by an index."""
    rows = (
        QuerySet(HourlyCount, using=using)
        .filter(hour__gte=moment)
        .values_list("hour", "outcome", "currency")
        .annotate(Sum("count"), Sum("waited"), Sum("amount"))
        .order_by("hour")
    )
    return [Total(*row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What happened in some hours, as people ask for it."""

    requests: int
    """Those that ran, and those that were answered instead."""
    repeats: int
    """Of them those that got the first answer again, or were too late for it."""
    not_charged: dict[str, Decimal]
    """What those repeats were about, by currency; the largest number of them first."""
    told_to_wait: int
    mismatched: int
    events: int
    """Webhook events that are done."""
    event_duplicates: int
    event_seconds: float
    """From their receipt until they were done, on the average."""

    @classmethod
    def of(cls, totals: Iterable[Total]) -> Summary:
        counts: dict[str, int] = {}
        amounts: dict[str, Decimal] = {}
        about: dict[str, int] = {}
        waited = 0.0
        for total in totals:
            counts[total.outcome] = counts.get(total.outcome, 0) + total.count
            if total.outcome == "event_processed":
                waited += total.waited
            if total.amount:
                currency = total.currency
                amounts[currency] = amounts.get(currency, Decimal(0)) + total.amount
                about[currency] = about.get(currency, 0) + total.count
        events = counts.get("event_processed", 0)
        return cls(
            requests=sum(counts.get(name, 0) for name in REQUESTS),
            repeats=counts.get("replayed", 0) + counts.get("expired", 0),
            not_charged={
                each: amounts[each]
                for each in sorted(amounts, key=lambda each: -about[each])
            },
            told_to_wait=counts.get("in_flight", 0),
            mismatched=counts.get("mismatched", 0),
            events=events,
            event_duplicates=counts.get("event_duplicate", 0),
            event_seconds=waited / events if events else 0.0,
        )


def busiest_endpoint(
    outcome: str, since: datetime, until: datetime, *, using: str
) -> tuple[str, int] | None:
    """Return where this happened most often in these hours, and how often."""
    rows = (
        QuerySet(HourlyCount, using=using)
        .filter(hour__gte=since, hour__lt=until, outcome=outcome)
        .values_list("endpoint")
        .annotate(times=Sum("count"))
        .order_by("-times", "endpoint")
    )
    found: tuple[str, int] | None = rows.first()
    return found


@dataclass(frozen=True, slots=True)
class HourPurge:
    """The counts of hours that are past their retention for `for_at_least` or longer."""

    using: str
    for_at_least: timedelta
    when_busy: WhenBusy = None

    def count(self) -> int:
        return insisted(self._expired().count, self.using, self.when_busy)

    def batches(self, size: int) -> Iterator[int]:
        """Delete at most `size` at a time; yield each batch's number."""
        delete = partial(self._delete, min(size, AT_ONCE))
        while deleted := insisted(delete, self.using, self.when_busy):
            yield deleted

    def _delete(self, size: int) -> int:
        ids = list(self._expired().values_list("pk", flat=True)[:size])
        QuerySet(HourlyCount, using=self.using).filter(pk__in=ids).delete()
        return len(ids)

    def _expired(self) -> QuerySet[HourlyCount]:
        age = conf.IDEMPOTENCY_STATISTICS_RETENTION + self.for_at_least
        return QuerySet(HourlyCount, using=self.using).filter(hour__lte=UtcNow() - age)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    listed = list(items)
    for begin in range(0, len(listed), AT_ONCE):
        yield listed[begin : begin + AT_ONCE]
