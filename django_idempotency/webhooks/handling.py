"""One event of a delivery: claim it, and handle or store it in that transaction."""

from __future__ import annotations

import inspect
import logging
from abc import abstractmethod
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, transaction
from django.dispatch import Signal

from django_idempotency import event_store, signals, store
from django_idempotency.claiming import Claiming
from django_idempotency.decisions import InFlight, Renew
from django_idempotency.event_store import EventRow, NewEvent
from django_idempotency.exceptions import (
    BrokenTransaction,
    StoreUnavailable,
    name_of,
)
from django_idempotency.models import ProcessedEvent
from django_idempotency.operations import EventIdentity
from django_idempotency.store import Claim

from .endpoints import Endpoint
from .events import Event, NotReady, PermanentError
from .profiles import body_digest

__all__ = ["ACKNOWLEDGED", "Outcome", "Result", "receive_event"]

logger = logging.getLogger("django_idempotency")

STATE = ProcessedEvent.State
DONE = frozenset({STATE.PROCESSED, STATE.IGNORED, STATE.DEAD})


class Outcome(Enum):
    """What became of one event in this delivery."""

    PROCESSED = auto()
    DUPLICATE = auto()
    """Done before, or stored before with its payload."""
    IGNORED = auto()
    STORED = auto()
    DEAD = auto()
    BUSY = auto()
    """Another delivery of it is being handled."""
    NOT_READY = auto()
    UNAVAILABLE = auto()
    FAILED = auto()


ACKNOWLEDGED = frozenset(
    {
        Outcome.PROCESSED,
        Outcome.DUPLICATE,
        Outcome.IGNORED,
        Outcome.STORED,
        Outcome.DEAD,
    }
)
"""Those after which the provider may forget the event."""


@dataclass(frozen=True, slots=True)
class Result:
    outcome: Outcome
    retry_after: timedelta = timedelta(seconds=1)


def receive_event(endpoint: Endpoint, event: Event, *, wait: timedelta) -> Result:
    """Handle or store one verified event; whatever happens is a result."""
    using = event_store.event_alias()
    kind = _Storing if endpoint.inbox else _Handling
    reception = kind(endpoint, event, using=using, wait=wait)
    try:
        result = reception.result()
    except Exception as error:
        return reception.after(error)
    if isinstance(result, InFlight):
        return Result(Outcome.BUSY)
    reception.told(result)
    return result


class _Reception(Claiming[Result, Result]):
    """What handling and storing an event have in common."""

    def __init__(
        self, endpoint: Endpoint, event: Event, *, using: str, wait: timedelta
    ) -> None:
        super().__init__(using=using, wait=wait)
        self.endpoint = endpoint
        self.event = event
        self.row: EventRow | None = None

    @property
    def new_event(self) -> NewEvent:
        return _new_event(self.event, ordered=self.endpoint.ordered)

    def lock(self, wait: timedelta) -> None:
        store.lock(ProcessedEvent, self.event.row_id, using=self.using, wait=wait)

    def look(self) -> Result | Renew | None:
        """Only what is done, given up with its payload, or in the inbox is a duplicate."""
        self.row = event_store.read(self.event.row_id, using=self.using)
        if self.row is None:
            return None
        is_done = self.row.state in DONE and not self.row.expired
        return Result(Outcome.DUPLICATE) if is_done or self.row.is_due else Renew()

    def renew(self) -> Claim:
        """Begin a new life where the last one is over."""
        event_store.forget(self.event.row_id, using=self.using)
        return self.claim(timedelta(0))

    def after(self, error: Exception) -> Result:
        """Return what an error comes to; nothing has been committed."""
        if isinstance(error, StoreUnavailable) and not self.has_started:
            action, outcome = "unavailable", Outcome.UNAVAILABLE
        else:
            action, outcome = "unclaimed", Outcome.FAILED
        logger.error(
            "webhook %s: an event could not be claimed",
            action,
            exc_info=error,
            extra={"action": action, "endpoint": self.endpoint.name},
        )
        return Result(outcome)

    def told(self, result: Result) -> None:
        if result.outcome is Outcome.DUPLICATE:
            report("event_duplicate", self.event)

    @abstractmethod
    def run(self, claim: Claim) -> Result: ...


class _Storing(_Reception):
    """The inbox: the raw bytes are stored, and a worker does the rest."""

    def claim(self, wait: timedelta) -> Claim:
        return event_store.put_into_inbox(
            self.new_event, self.event.raw, using=self.using, wait=wait
        )

    def run(self, claim: Claim) -> Result:
        return Result(Outcome.STORED)

    def _run_claimed(self, *, row_exists: bool) -> Result:
        """Insert in a statement that commits itself, where nothing else is to be done.

        BEGIN and COMMIT would be two more round trips in what a provider waits for.
        """
        with store.claim_errors(self.using), store.opened(self.using, self.wait.left):
            commits_itself = connections[self.using].get_autocommit()
            if commits_itself and not row_exists:
                return self.run(self.claim(self.wait.left))
        return super()._run_claimed(row_exists=row_exists)


class _Handling(_Reception):
    """The inline mode: the handler runs in the transaction of the claim."""

    is_committed = False

    def claim(self, wait: timedelta) -> Claim:
        return event_store.claim(self.new_event, using=self.using, wait=wait)

    def renew(self) -> Claim:
        if self.row is None or self.row.expired:
            return super().renew()
        self.event = replace(self.event, attempt=self.row.attempts + 1)
        return event_store.take_over(self.event.row_id, using=self.using)

    def run(self, claim: Claim) -> Result:
        if not self.endpoint.handles(self.event):
            event_store.settle(
                claim, STATE.IGNORED, payload=self.event.raw, using=self.using
            )
            return Result(Outcome.IGNORED)
        # The first of the callbacks: whichever of the handler's own raises afterwards,
        # the event is done.
        transaction.on_commit(self._committed, using=self.using, robust=True)
        run_handler(self.endpoint, self.event, using=self.using)
        event_store.settle(claim, STATE.PROCESSED, payload=None, using=self.using)
        return Result(Outcome.PROCESSED)

    def after(self, error: Exception) -> Result:
        if self.is_committed:
            logger.error("A callback after a webhook event failed.", exc_info=error)
            return Result(Outcome.PROCESSED)
        if not self.has_started:
            return super().after(error)
        match error:
            case NotReady():
                self._note(STATE.FAILED, error)
                report("event_failed", self.event)
                return Result(Outcome.NOT_READY, error.after)
            case PermanentError():
                return self._buried(error)
            case _:
                return self._given_up_or_failed(error)

    def _given_up_or_failed(self, error: Exception) -> Result:
        logger.error(
            "webhook failed",
            exc_info=error,
            extra={"action": "event_raised", "row_id": self.event.row_id},
        )
        limit = self.endpoint.max_attempts
        if limit is not None and self.event.attempt >= limit:
            return self._buried(error)
        self._note(STATE.FAILED, error)
        return self._failed()

    def _buried(self, error: Exception) -> Result:
        """Acknowledge only if the payload is safe: dead and stored in one commit."""
        is_written = self._note(STATE.DEAD, error)
        if is_written is None:
            return self._failed()
        if not is_written:  # by another delivery it is done, or stored
            return Result(Outcome.DUPLICATE)
        report("event_dead", self.event)
        return Result(Outcome.DEAD)

    def _failed(self) -> Result:
        report("event_failed", self.event)
        return Result(Outcome.FAILED)

    def _note(self, state: str, error: Exception) -> bool | None:
        """Leave what happened; ``None``: it could not be written."""
        try:
            return event_store.note_failure(
                self.new_event,
                state,
                name_of(error),
                payload=self.event.raw if state == STATE.DEAD else None,
                using=self.using,
            )
        except Error as trouble:
            logger.warning(
                "A failed webhook event could not be noted: %s", type(trouble).__name__
            )
            return None

    def _committed(self) -> None:
        self.is_committed = True
        report("event_processed", self.event)


def run_handler(endpoint: Endpoint, event: Event, *, using: str) -> None:
    """Call the handler, and refuse what only looks like success.

    Raises:
        ImproperlyConfigured: it returned a coroutine, which nobody would await.
        BrokenTransaction: what it wrote can't be committed.
    """
    with store.watched(using):
        returned: Any = endpoint.handler(event)
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise ImproperlyConfigured(
            f"The handler of webhook {endpoint.name!r} returned an awaitable and did "
            "nothing: it runs in a transaction, and Django has no async ones."
        )
    if store.is_broken(using):
        raise BrokenTransaction(
            "The webhook handler returned, but its transaction can only be rolled back: "
            "it swallowed a database error, or called set_rollback(True). Wrap the "
            "statement that may fail in its own atomic(), or let the error out."
        )


def report(action: str, event: Event) -> None:
    """Write one log line and send the signal of that name."""
    level = logging.ERROR if action == "event_dead" else logging.INFO
    logger.log(
        level,
        "webhook %s",
        action,
        extra={"action": action, "endpoint": event.endpoint, "row_id": event.row_id},
    )
    signal: Signal = getattr(signals, action)
    signal.send_robust(sender=ProcessedEvent, event=event)


def _new_event(event: Event, *, ordered: bool) -> NewEvent:
    return NewEvent(
        identity=EventIdentity(
            endpoint=event.endpoint,
            source=event.source,
            account=event.account,
            event_id=event.id,
        ),
        row_id=event.row_id,
        event_type=event.type,
        object_key=event.object_key if ordered else "",
        body_digest=body_digest(event.raw),
        headers=dict(event.headers),
        occurred_at=event.occurred_at,
    )
