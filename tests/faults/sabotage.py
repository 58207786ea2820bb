"""Negative controls: each removes one guard from the package, in a server process.

A campaign that reports nothing without the guard proves nothing with it.
"""

import re
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connections, transaction

from django_idempotency.core.decisions import Decision, Renew, Replay
from django_idempotency.engine import counting, record_row, steps
from django_idempotency.engine.claiming import Claiming
from django_idempotency.engine.owner import Owner
from django_idempotency.engine.steps import LeasedSteps
from django_idempotency.exceptions import ClaimConflict
from django_idempotency.http import requests as http
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import events as event_store
from django_idempotency.store import records as store
from django_idempotency.store import rows, statements
from django_idempotency.store.dialects import DIALECTS
from django_idempotency.store.dialects.galera import Galera
from django_idempotency.store.rows import Claim
from django_idempotency.webhooks import endpoints, receiver
from django_idempotency.webhooks.deliveries import Verified


def apply(name: str) -> None:
    if name:
        SABOTAGES[name]()


def unique() -> None:
    """A claim ignores the row that it conflicts with."""
    modules: tuple[Any, ...] = (rows, store, event_store)
    insert_first = rows.insert_first

    def insert_anyway(
        statement: str,
        parameters: dict[str, Any],
        row_id: UUID,
        using: str,
        wait: timedelta,
    ) -> Claim:
        try:
            return insert_first(statement, parameters, row_id, using, wait)
        except ClaimConflict:
            for model in (IdempotencyRecord, ProcessedEvent):
                model._base_manager.using(using).filter(pk=row_id).delete()
            return insert_first(statement, parameters, row_id, using, wait)

    for module in modules:
        module.insert_first = insert_anyway


def savepoint() -> None:
    """The answer is kept outside of the transaction, right after its commit."""
    keep = store.keep
    # Nor does it depend on the transaction of the claim, which is over then.
    mark()

    def keep_afterwards(claim: Claim, answer: Any) -> None:
        transaction.on_commit(lambda: keep(claim, answer), using=claim.using)

    store.keep = keep_afterwards


def token() -> None:
    """What the owner of a lease writes doesn't depend on its token."""
    written: Any = statements.RecordStatements
    write = written._write_leased

    def write_without_token(self: Any, *args: Any) -> None:
        write(self, *args)
        for name, statement in vars(self).items():
            owned = "lease_token = %(lease_token)s"
            head, where, condition = statement.partition(" WHERE ")
            condition = condition.replace(owned, "%(lease_token)s IS NOT NULL")
            setattr(self, name, head + where + condition)

    written._write_leased = write_without_token


def signature() -> None:
    """Any delivery is believed."""
    receiver._verdict = lambda *args: Verified(0)


def scope() -> None:
    """Everybody's keys are one set."""
    http.caller_of = lambda request: http.Caller("everybody", is_guest=False)


def kept() -> None:
    """An answer that was kept is not honoured."""
    deciding: Any = record_row
    decide = deciding.decide

    def decide_to_run(*args: Any) -> Decision:
        decision: Decision = decide(*args)
        return Renew() if isinstance(decision, Replay) else decision

    deciding.decide = decide_to_run


def held() -> None:
    """A call whose outcome is unknown is repeated, whatever the view has asked for."""
    leased: Any = LeasedSteps
    begin_call = leased.begin_call

    def begin_call_again(self: Any, name: str, if_unknown: Any) -> Any:
        return begin_call(self, name, "repeat")

    leased.begin_call = begin_call_again


def expiry() -> None:
    """The purge deletes what has not expired."""
    for written, born in (
        (statements.RecordStatements, "created_at"),
        (statements.EventStatements, "received_at"),
    ):
        _purge_by(written, born)


def _purge_by(written: Any, born: str) -> None:
    write = written.__init__

    def write_otherwise(self: Any, *args: Any) -> None:
        write(self, *args)
        at_once = self.purge.at_once.replace(" expires_at <=", f" {born} <=")
        self.purge = replace(self.purge, at_once=at_once)

    written.__init__ = write_otherwise


def renewal() -> None:
    """No step renews the lease, and a call begins though it is over."""
    written: Any = statements.RecordStatements
    write = written._write_leased

    def write_without_renewal(self: Any, *args: Any) -> None:
        write(self, *args)
        renewed = r", lease_expires_at = (?:CASE .*? END|GREATEST\(.*? second'\))"
        self.remember = self.begin_call = re.sub(renewed, "", self.remember)
        held = re.sub(renewed, "", self.remember_held)
        self.remember_held = self.begin_held_call = held

    written._write_leased = write_without_renewal
    owner: Any = Owner
    owner.require_time = lambda self: None


def shield() -> None:
    """A client that goes away takes the step along that it was waiting for."""

    async def awaited(work: Any) -> Any:
        return await work

    module: Any = steps
    module.to_its_end = awaited


def seen() -> None:
    """A person settles what is held now, whatever it was that the person has seen."""
    settle: Any = IdempotencyRecord.settle

    def settle_whatever_is_there(self: Any, **decision: Any) -> None:
        self.refresh_from_db()
        settle(self, **decision)

    record: Any = IdempotencyRecord
    record.settle = settle_whatever_is_there


def names() -> None:
    """Receivers that one function makes may have one name."""
    endpoints._same = lambda *both: True


def mark() -> None:
    """Nobody asks whether it is still the transaction of the claim."""
    dialect: Any = type(DIALECTS[connections["default"].vendor])
    dialect.same_transaction = ""
    dialect.is_marked = lambda self, *args: True


def beside() -> None:
    """What was counted is written by a request, in its transaction."""
    keep = store.keep

    def write_and_keep(claim: Claim, answer: Any) -> None:
        with suppress(Error), transaction.atomic(using=claim.using):
            counting.counter.flush()
        keep(claim, answer)

    store.keep = write_and_keep


def stream() -> None:
    """Another node doesn't know of a claim until its commit."""
    dialect: Any = Galera
    dialect.streamed = lambda self, statement: statement


def look_again() -> None:
    """Nor is who has lost to another node's claim answered from its row."""
    stream()
    claiming: Any = Claiming
    claiming._after_conflict = lambda self, error: None


SABOTAGES = {
    each.__name__.replace("_", "-"): each
    for each in (
        *(unique, savepoint, token, signature, scope, kept, held, expiry),
        *(renewal, shield, seen, names, mark, beside, stream, look_again),
    )
}
