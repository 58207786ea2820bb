"""A day of traffic that leaves an operation and an event in each state."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.test import Client
from django.utils import timezone

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store.forgetting import erase, forget_answer
from tests.browser.front import shop
from tests.factories import IdempotencyRecordFactory, UserFactory
from tests.support.deliveries import deliver, stripe
from tests.support.ordering import forgiving_client

OPERATIONS = {
    *("kept", "refused", "failed", "running", "stopped", "held", "held by its worker"),
    *("held without a call", "settled by a person", "settled by the provider"),
    *("forgotten", "erased"),
}
EVENTS = {"processed", "dead", "due", "failed", "ignored"}


def key(name: str) -> str:
    return f"client-key-of-{name.replace(' ', '-')}"


def pay(
    client: Client, name: str, cart: int, bank: str = "answers", **more: Any
) -> Any:
    client.post(
        "/pay/",
        {"cart": cart, "bank": bank, **more},
        headers={"Idempotency-Key": key(name)},
    )
    return IdempotencyRecord.objects.filter(key=key(name)).first()


def tell(to: str, number: int, kind: str = "charge.succeeded", **content: Any) -> None:
    content |= {"created": int(time.time()), "data": {"object": {"id": f"ch_{number}"}}}
    sent = stripe(f"evt_{number}", type=kind, **content)
    deliver(to, sent)


def make() -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the day; return the operations and the events of it by what became of them."""
    ada, bob = (forgiving_client(username=name) for name in ("ada", "bob"))
    kept = {name: n for n, name in enumerate(sorted(OPERATIONS))}
    for name in ("kept", "forgotten"):
        pay(ada, name, kept[name])
    pay(bob, "erased", kept["erased"])
    for _ in range(2):
        pay(ada, "kept", kept["kept"])  # replayed
    pay(ada, "kept", kept["kept"], note="another")  # mismatched
    pay(ada, "refused", kept["refused"], "declines")
    ada.post("/fail/", headers={"Idempotency-Key": key("failed")})
    for name in ("held", "settled by a person", "settled by the provider"):
        pay(ada, name, kept[name], "silent")
        pay(ada, name, kept[name], "silent")  # is told that it isn't known
    _rows()
    _decide(kept)
    tell("/stripe/", kept["kept"])
    tell("/stripe/", kept["kept"])  # a duplicate
    tell("/stripe/", 90, "charge.failed")  # dead
    tell("/stripe/", 91, "charge.updated")  # ignored
    tell("/broken/", 92)  # failed
    tell("/books/", 93)  # due
    records = {each.key: each for each in IdempotencyRecord.objects.all()}
    events = {each.state: each for each in ProcessedEvent.objects.all()}
    events["due"] = events.pop("received")
    found = {name: records.get(key(name)) for name in OPERATIONS - {"erased"}}
    found["erased"] = records["(erased)"]
    return found, events


def _rows() -> None:
    """What only a worker that is killed leaves."""
    user, now = UserFactory.create(username="ada"), timezone.now()
    begun = {"at": (now - timedelta(minutes=9)).isoformat(), "what": "claimed"}
    over = now - timedelta(minutes=8)
    killed: dict[str, dict[str, Any]] = {
        "running": {"in_flight": True},
        "stopped": {"in_flight": True, "lease_expires_at": over},
        "held by its worker": {"held": True, "lease_expires_at": over},
        "held without a call": {"held": True, "effects": {}},
    }
    for name, columns in killed.items():
        made = IdempotencyRecordFactory.create(
            user=user, path="/pay/", key=key(name), history=[begun], **columns
        )
        IdempotencyRecord.objects.filter(pk=made.pk).update(
            created_at=now - timedelta(minutes=9)
        )


def _decide(carts: dict[str, int]) -> None:
    settled = IdempotencyRecord.objects.get(key=key("settled by a person"))
    settled.settle(applied=False, reason="not in the bank's list", by="grace")
    cart = carts["settled by the provider"]
    asked_as = {"id": None, "idempotency_key": shop.keys[str(cart)]}
    tell("/stripe/", cart, request=asked_as)
    forgotten = IdempotencyRecord.objects.get(key=key("forgotten"))
    forget_answer(forgotten, by="grace", reason="she asked for it")
    scope = IdempotencyRecord.objects.get(key=key("erased")).scope
    erase(scope.partition("|")[0], by="grace", reason="he asked for it")
