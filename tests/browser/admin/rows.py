"""Rows whose stories the browsers read, as an afternoon may leave them."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils.timezone import now

from django_idempotency.core.keys import derive_key
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import links
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory

KEY = "ac71c111-bf07-4a43-9f00-0d2c3b1e5a77"
A_DAY = timedelta(days=1)


def staff() -> User:
    return User.objects.create_superuser("grace", "grace@example.com", "secret")


def held_payment() -> IdempotencyRecord:
    """The worker was killed while the card was being charged."""
    begun = now() - timedelta(minutes=9)

    def at(seconds: float) -> str:
        return (begun + timedelta(seconds=seconds)).isoformat()

    ada = UserFactory.create(username="ada")
    steps = [
        {
            **{"name": "reserve", "kind": "write", "done": True, "result": 46.82},
            **{"began": at(0.014), "ended": at(0.028)},
        },
        {"name": "charge", "kind": "call", "done": False, "began": at(1.696)},
    ]
    history = [
        {"at": at(0), "what": "claimed", "by": "web-3:41", "request": "7f2c"},
        {"at": at(3.9), "what": "in_flight", "waited": 2.0},
        {"at": at(112), "what": "refused", "waited": 0.003},
    ]
    record: IdempotencyRecord = IdempotencyRecordFactory.create(
        held=True,
        user=ada,
        path="/checkout/",
        key=KEY,
        effects={"steps": steps},
        history=history,
        lease_token=uuid.uuid4(),
    )
    IdempotencyRecord.objects.update(
        created_at=begun,
        lease_expires_at=begun + timedelta(seconds=60),
        held_since=begun + timedelta(seconds=60),
    )
    _about(
        record,
        Link(
            kind=LinkKind.OBJECT,
            value=f"auth.user:{ada.pk}",
            label="Cart 117",
            amount="46.82 EUR",
        ),
        Link(kind=LinkKind.REFERENCE, value="cart-117"),
        Link(kind=LinkKind.CALL, value=derive_key(record.pk, "charge"), label="charge"),
    )
    record.refresh_from_db()
    return record


def done_payment() -> IdempotencyRecord:
    """A key that came three times, and a webhook that came of it."""
    begun = now() - timedelta(minutes=3)

    def at(seconds: float) -> str:
        return (begun + timedelta(seconds=seconds)).isoformat()

    charge = {"id": "ch_3Qx", "status": "succeeded", "client_secret": "s3cr3t"}
    record: IdempotencyRecord = IdempotencyRecordFactory.create(
        user=UserFactory.create(username="ada"),
        path="/checkout/",
        answer={"order": 9, "charge": "ch_3Qx"},
        replays=1,
        effects={
            "steps": [
                {
                    **{"name": "charge", "kind": "call", "done": True},
                    **{"result": charge, "began": at(0.02), "ended": at(1.4)},
                }
            ]
        },
        history=[
            {"at": at(0), "what": "claimed", "by": "web-1:17"},
            {"at": at(1.1), "what": "in_flight", "waited": 0.5},
            {"at": at(31), "what": "replayed", "waited": 0},
        ],
    )
    IdempotencyRecord.objects.filter(pk=record.pk).update(
        created_at=begun, completed_at=begun + timedelta(seconds=1.6)
    )
    ProcessedEventFactory.create(
        event_id="evt_1", event_type="charge.succeeded", object_key="ch_3Qx"
    )
    ada = User.objects.get(username="ada")
    _about(
        record,
        Link(kind=LinkKind.OBJECT, value="order 9", amount="12.00 EUR"),
        Link(kind=LinkKind.OBJECT, value=f"auth.user:{ada.pk}"),
    )
    record.refresh_from_db()
    return record


def dead_event() -> ProcessedEvent:
    event: ProcessedEvent = ProcessedEventFactory.create(
        dead=True,
        event_id="evt_9",
        event_type="charge.failed",
        object_key="ch_9",
        data=None,
        last_error="shop.Unknown: no order has the charge ch_9",
        occurred_at=now() - timedelta(minutes=2),
        reruns=[
            {
                **{"at": (now() - timedelta(seconds=40)).isoformat()},
                **{"by": "grace", "reason": "the order was imported"},
            }
        ],
    )
    return event


def _about(record: Any, *found_by: Link) -> None:
    links.add(found_by, record.pk, retention=A_DAY, using="default")
