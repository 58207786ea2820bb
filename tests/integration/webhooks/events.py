"""What became of the events, as the database says."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F
from django.db.models.functions import Now

from django_idempotency.models import ProcessedEvent

__all__ = ["let_expire", "make_due", "only", "states"]


def only() -> ProcessedEvent:
    return ProcessedEvent.objects.get()


def states() -> dict[str, str]:
    """The state of each event, by the provider's id."""
    return dict(ProcessedEvent.objects.values_list("event_id", "state"))


def make_due() -> None:
    """As if the time until the next attempt were over."""
    ProcessedEvent.objects.exclude(next_attempt_at=None).update(next_attempt_at=Now())


def let_expire(*, after: timedelta) -> None:
    """As if so much time had passed since the deliveries."""
    ProcessedEvent.objects.update(
        expires_at=F("expires_at") - after, received_at=F("received_at") - after
    )
