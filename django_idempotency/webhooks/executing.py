"""One attempt at an event: run its handler, and decide how that ended.

The same for events that are handled inline and for those in the inbox; they differ in
how they hold the event's row.
"""

from __future__ import annotations

import inspect
import logging
import time
from enum import Enum, auto
from functools import partial
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.dispatch import Signal

from django_idempotency import signals
from django_idempotency.core.events import EventState
from django_idempotency.core.operations import on_one_line
from django_idempotency.engine import words
from django_idempotency.engine.idempotency import Idempotency, set_current
from django_idempotency.engine.links import Links
from django_idempotency.engine.steps import EventSteps
from django_idempotency.exceptions import BrokenTransaction
from django_idempotency.models import ProcessedEvent
from django_idempotency.store import rows

from .endpoints import Endpoint
from .events import Event, NotReady, PermanentError, told_of

logger = logging.getLogger("django_idempotency")


class Ending(Enum):
    """How an attempt at an event ended."""

    PROCESSED = auto()
    IGNORED = auto()
    FAILED = auto()
    """Another attempt will follow."""
    DEAD = auto()
    OVERTAKEN = auto()
    """It failed, and another attempt has finished the event meanwhile."""


class AttemptedRow(Protocol):
    """The row of an event, as an attempt writes to it."""

    def settle(self, state: EventState, *, payload: bytes | None) -> None:
        """Mark it as done, in the transaction of the handler."""

    def is_last_attempt(self, error: BaseException) -> bool:
        """Say whether the event is given up after this error."""

    def fail(self, error: BaseException) -> bool:
        """Note the error after the rollback; return whether another attempt follows.

        Raises:
            Error: it could not be written.
        """

    def bury(self, error: BaseException) -> bool:
        """Give the event up after the rollback, with its payload.

        Returns whether it was written: if not, another attempt has finished the event.

        Raises:
            Error: it could not be written.
        """


class Execution:
    """An attempt at an event: its handler, and what follows from a failure."""

    def __init__(
        self, event: Event, row: AttemptedRow, *, using: str, age: float
    ) -> None:
        self.event = event
        self._row = row
        self._using = using
        # By this process's own clock; the database's has told the age.
        self._received = time.monotonic() - age
        self._is_committed = False

    def run(self, endpoint: Endpoint) -> Ending:
        """Run the handler and mark the event, in the transaction that is open.

        Raises:
            Exception: whatever the handler raised. Roll back, and ask `after`.
        """
        reason = endpoint.reason_to_ignore(self.event)
        # Registered before the handler's own callbacks: if one of those raises, the
        # event is done all the same.
        transaction.on_commit(
            partial(self._committed, reason), using=self._using, robust=True
        )
        if reason:
            self._row.settle(EventState.IGNORED, payload=self.event.raw)
            return Ending.IGNORED
        links = run_handler(endpoint, self.event, using=self._using)
        settle_call(endpoint, self.event)
        self._row.settle(EventState.PROCESSED, payload=None)
        links.store()
        return Ending.PROCESSED

    def after(self, error: BaseException) -> Ending:
        """Return what follows from an error of `run` or of the commit after it.

        It doesn't raise: no event may end the worker of the others.
        """
        if self._is_committed:
            logger.error("A callback after a webhook event failed.", exc_info=error)
            return Ending.PROCESSED
        if not isinstance(error, NotReady | PermanentError):
            logger.error(
                "webhook event_raised: %s",
                _described(self.event),
                exc_info=error,
                extra={
                    "action": "event_raised",
                    "endpoint": self.event.endpoint,
                    "row_id": self.event.row_id,
                },
            )
        try:
            if self._is_final(error) or not self._row.fail(error):
                return self._buried(error)
        except Exception as trouble:
            logger.warning(
                "A failed webhook event could not be noted: %s", type(trouble).__name__
            )
        report_event("event_failed", self.event)
        return Ending.FAILED

    def _is_final(self, error: BaseException) -> bool:
        if isinstance(error, PermanentError):
            return True
        return self._row.is_last_attempt(error)

    def _buried(self, error: BaseException) -> Ending:
        if not self._row.bury(error):
            return Ending.OVERTAKEN
        reason = told_of(error) if isinstance(error, PermanentError) else ""
        report_event("event_dead", self.event, on_one_line(reason))
        return Ending.DEAD

    def _committed(self, reason_to_ignore: str) -> None:
        self._is_committed = True
        if reason_to_ignore:
            report_event("event_ignored", self.event, reason_to_ignore)
        else:
            waited = max(0.0, time.monotonic() - self._received)
            report_event("event_processed", self.event, waited=waited)


def run_handler(endpoint: Endpoint, event: Event, *, using: str) -> Links:
    """Call the handler, and refuse what only looks like success.

    Returns what it lets the event be found by.

    Raises:
        ImproperlyConfigured: it returned an awaitable, which nobody would await.
        BrokenTransaction: what it wrote can't be committed.
    """
    steps = EventSteps(event.row_id, using)
    set_current(Idempotency(steps))
    connection = connections[using]
    with rows.watched(connection):
        returned: Any = endpoint.handler(event)
    if inspect.isawaitable(returned):
        if inspect.iscoroutine(returned):
            returned.close()
        raise ImproperlyConfigured(
            f"The handler of webhook {endpoint.name!r} returned an awaitable and did "
            "nothing: it runs in a transaction, and Django has no async transactions."
        )
    if rows.is_broken(connection):
        raise BrokenTransaction(
            "The webhook handler returned, but its transaction can only be rolled back: "
            "it swallowed a database error, or called set_rollback(True). Wrap the "
            "statement that may fail in its own atomic(), or let the error out."
        )
    return steps.links


def settle_call(endpoint: Endpoint, event: Event) -> None:
    """Let the event tell what became of the call that has caused it, if it says so.

    Raises:
        TypeError: the result can't be stored as JSON.
    """
    if endpoint.settles is None or endpoint.result is None:
        return
    found = words.operations_of_call(event, endpoint.settles)
    if not found or (result := endpoint.result(event)) is None:
        return
    if len(set(found)) > 1:
        logger.warning(
            "webhook event_ambiguous: several operations have made the call %r by this "
            "reference, so none is settled: %s",
            endpoint.settles,
            _described(event),
            extra={
                "action": "event_ambiguous",
                "endpoint": event.endpoint,
                "row_id": event.row_id,
            },
        )
        return
    words.tell(found[0], endpoint.settles, result, event=event.id)


def described(endpoint: str, event_type: str, event_id: str, row_id: object) -> str:
    """Return what an event is, for a line of a log."""
    what = on_one_line(f"{endpoint} {event_type} {event_id}")
    return f"{what} (row {row_id})"


def _described(event: Event) -> str:
    return described(event.endpoint, event.type, event.id, event.row_id)


LEVELS = {"event_dead": logging.ERROR, "event_ignored": logging.WARNING}


def report_event(action: str, event: Event, reason: str = "", **more: float) -> None:
    """Write one log line and send the signal of that name, with `more`."""
    logger.log(
        LEVELS.get(action, logging.INFO),
        "webhook %s: %s",
        action,
        f"{_described(event)}: {reason}" if reason else _described(event),
        extra={"action": action, "endpoint": event.endpoint, "row_id": event.row_id},
    )
    signal: Signal = getattr(signals, action)
    signal.send_robust(sender=ProcessedEvent, event=event, **more)
