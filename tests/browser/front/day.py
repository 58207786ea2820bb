"""A day of a shop, as it stands in the tables: each state, and counts of each hour."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import hours, links
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory

PAY = "POST /checkout/"
BUSY = (
    3,
    3,
    2,
    2,
    2,
    3,
    5,
    8,
    11,
    14,
    16,
    18,
    22,
    38,
    26,
    24,
    21,
    19,
    15,
    12,
    10,
    8,
    6,
)
"""Requests in tens, of the hours before this one."""


def make(*, held: int = 2, dead: int = 1) -> None:
    count_hours()
    for number in range(held):
        make_held(number)
    for number in range(dead):
        ProcessedEventFactory.create(
            dead=True,
            event_id=f"evt_1Q{number}",
            event_type="payment_intent.succeeded",
            last_error="shop.models.Order.DoesNotExist",
            dead_since=ago(minutes=120 + number),
        )
    for number in range(4):
        ProcessedEventFactory.create(
            due=True, event_id=f"evt_2Q{number}", next_attempt_at=ago(minutes=1)
        )
    IdempotencyRecordFactory.create(
        user=UserFactory.create(), path="/checkout/", in_flight=True
    )


def make_held(number: int) -> IdempotencyRecord:
    user = UserFactory.create(username=("ada", "grace")[number % 2])
    record: IdempotencyRecord = IdempotencyRecordFactory.create(
        user=user,
        path="/checkout/",
        held=True,
        held_since=ago(minutes=8 + number),
        last_error="" if number % 2 else "stripe.APIConnectionError",
    )
    link = Link(
        kind=LinkKind.OBJECT,
        value=f"shop.order:{number}",
        label=f"Order {number + 117}",
        amount="46.82 EUR",
    )
    links.add([link], record.pk, retention=timedelta(days=1), using="default")
    return record


def count_hours() -> None:
    now = int(timezone.now().timestamp()) // 3600
    tallies = []
    for back, tens in enumerate(reversed((*BUSY, 4))):
        repeats = 38 if tens == max(BUSY) else tens // 4
        more: dict[str, Any] = {"hour": now - back}
        tallies += [
            hours.Tally(**more, endpoint=PAY, outcome="claimed", count=tens * 10),
            hours.Tally(
                **more,
                endpoint=PAY,
                outcome="replayed",
                count=max(1, repeats),
                currency="EUR",
                amount=Decimal("34.81") * repeats,
            ),
            hours.Tally(
                **more,
                endpoint="stripe",
                outcome="event_processed",
                count=tens * 2,
                waited=tens * (30.0 if tens == max(BUSY) else 2.0),
            ),
        ]
    tallies += [
        hours.Tally(hour=now, endpoint=PAY, outcome="mismatched", count=6),
        hours.Tally(hour=now, endpoint="PUT /cart/", outcome="mismatched", count=1),
    ]
    hours.add(tallies, using="default")


def ago(**more: float) -> Any:
    return timezone.now() - timedelta(**more)
