"""What the database says about it."""

from __future__ import annotations

from django_idempotency.models import IdempotencyRecord
from tests.testapp.models import Order


def orders() -> int:
    return Order.objects.count()


def states() -> list[str]:
    """The states of all records, oldest first."""
    records = IdempotencyRecord.objects.order_by("created_at")
    return list(records.values_list("state", flat=True))
