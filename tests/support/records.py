"""The records that a test has left, and how they are changed behind its back."""

from datetime import timedelta
from typing import Any

from django.db.models.functions import Now

from django_idempotency.models import IdempotencyRecord


def record() -> IdempotencyRecord:
    return IdempotencyRecord.objects.get()


def states() -> list[str]:
    """The states of all records, oldest first."""
    records = IdempotencyRecord.objects.order_by("created_at")
    return list(records.values_list("state", flat=True))


def change(**columns: Any) -> None:
    """Change the record as nobody but a person with SQL would."""
    assert IdempotencyRecord.objects.update(**columns) == 1


def expire() -> None:
    """Let the retention of the record be over."""
    change(expires_at=Now() - timedelta(seconds=1))
