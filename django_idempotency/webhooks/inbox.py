"""Stored deliveries and their worker: one step at a time, callable from anywhere."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable
from datetime import timedelta
from enum import Enum, auto

from django.db import Error, transaction
from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency import event_store
from django_idempotency.event_store import StoredEvent
from django_idempotency.exceptions import ClaimOutrun, ClaimTimedOut, name_of
from django_idempotency.models import ProcessedEvent

from .deliveries import Delivery
from .endpoints import DEFAULT_MAX_ATTEMPTS, Endpoint, endpoint_named, make_event
from .events import Event, NotReady, PermanentError
from .handling import report, run_handler
from .profiles import UnusableDelivery

__all__ = ["Step", "process_next", "rerun"]

logger = logging.getLogger("django_idempotency")

STATE = ProcessedEvent.State

FIRST_RETRY = timedelta(seconds=5)
"""Also how long an event is left alone that has killed its worker."""
LONGEST_RETRY = timedelta(hours=6)


class Step(Enum):
    """What one step came to."""

    NOTHING_DUE = auto()
    TAKEN = auto()
    """Another worker has it, or has finished it meanwhile."""
    PROCESSED = auto()
    IGNORED = auto()
    FAILED = auto()
    """It will be tried again."""
    DEAD = auto()
    REOPENED = auto()
    """It will run with the provider's next delivery, since its payload is gone."""


def process_next() -> Step:
    """Handle the next due event of any inbox.

    First its attempts are raised, in a commit of their own: an event that kills its
    worker must not loop for ever. Then the handler and the mark run in one transaction,
    so that a killed worker frees the event.

    Raises:
        RuntimeError: if it is called inside a transaction.
        django.db.Error, StoreUnavailable: if the database can't be asked. The event is
            due again later.
    """
    using = event_store.event_alias()
    with transaction.atomic(using=using, durable=True):
        row_id = event_store.begin_next(using=using, free_after=FIRST_RETRY)
    if row_id is None:
        return Step.NOTHING_DUE
    return _Attempt(row_id, using).step()


def rerun(row_id: uuid.UUID, *, reason: str, by: str = "") -> Step:
    """Run an event again that was ignored, given up or processed.

    Who and why is recorded on the event. If the handler fails, the event is dead again;
    it never waits for a worker, which an inline receiver needn't have. Where the payload
    is gone, as of one that was processed, the provider's next delivery runs it.
    Afterwards it is a duplicate again.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: there is no reason, or the event waits in the inbox and will be tried
            anyway.
        RuntimeError: if it is called inside a transaction.
    """
    if not reason.strip():
        raise ValueError("Say why the event is run again.")
    using = event_store.event_alias()
    with transaction.atomic(using=using, durable=True):
        has_payload = event_store.reopen(row_id, reason=reason, by=by, using=using)
    if not has_payload:
        return Step.REOPENED
    return _Attempt(row_id, using, is_rerun=True).step()


class _Attempt:
    """One attempt at a stored event."""

    def __init__(
        self, row_id: uuid.UUID, using: str, *, is_rerun: bool = False
    ) -> None:
        self.row_id = row_id
        self.using = using
        self.is_rerun = is_rerun
        self.limit = DEFAULT_MAX_ATTEMPTS
        self.attempts = 0
        self.event: Event | None = None
        self.is_committed = False

    def step(self) -> Step:
        try:
            with transaction.atomic(using=self.using):
                return self._run()
        except Exception as error:
            if self.is_committed:
                logger.exception("A callback after a webhook event failed.")
                return Step.PROCESSED
            if self.event is not None:
                return self._after(error, self.event)
            if isinstance(error, ClaimTimedOut | ClaimOutrun):
                return Step.TAKEN
            raise

    def _run(self) -> Step:
        take = event_store.take_finished if self.is_rerun else event_store.take
        stored = take(self.row_id, using=self.using)
        if stored is None:
            return Step.TAKEN
        self.attempts = stored.attempts
        self.event = _without_data(stored)
        endpoint = endpoint_named(stored.identity.endpoint)
        if endpoint is None:
            raise LookupError(
                f"no webhook endpoint is named {stored.identity.endpoint!r}"
            )
        self.limit = endpoint.max_attempts or DEFAULT_MAX_ATTEMPTS
        if self.attempts > self.limit and not self.is_rerun:
            raise PermanentError("each attempt has killed its worker")
        self.event = event = event_of(stored, endpoint)
        if not endpoint.handles(event):
            self._finish(STATE.IGNORED, payload=event.raw)
            return Step.IGNORED
        # The first of the callbacks: whichever of the handler's own raises afterwards,
        # the event is done.
        transaction.on_commit(self._committed(event), using=self.using, robust=True)
        run_handler(endpoint, event, using=self.using)
        self._finish(STATE.PROCESSED, payload=None)
        return Step.PROCESSED

    def _finish(self, state: str, *, payload: bytes | None) -> None:
        event_store.finish(self.row_id, state, payload=payload, using=self.using)

    def _committed(self, event: Event) -> Callable[[], None]:
        def committed() -> None:
            self.is_committed = True
            report("event_processed", event)

        return committed

    def _after(self, error: Exception, event: Event) -> Step:
        if not isinstance(error, NotReady | PermanentError):
            logger.error(
                "webhook failed",
                exc_info=error,
                extra={"action": "event_raised", "row_id": self.row_id},
            )
        is_last = self.is_rerun or self.attempts >= self.limit
        try:
            if is_last or isinstance(error, PermanentError | UnusableDelivery):
                return self._bury(error, event)
            self._retry_later(error)
        except Error as trouble:
            # It is due again all the same, since the attempt began.
            logger.warning(
                "A failed webhook event could not be noted: %s", type(trouble).__name__
            )
        report("event_failed", event)
        return Step.FAILED

    def _retry_later(self, error: Exception) -> None:
        after = _backoff(self.attempts)
        if isinstance(error, NotReady):
            after = max(after, error.after)
        event_store.retry_later(
            self.row_id, self.attempts, name_of(error), after=after, using=self.using
        )

    def _bury(self, error: Exception, event: Event) -> Step:
        is_written = event_store.bury(
            self.row_id, self.attempts, name_of(error), using=self.using
        )
        if not is_written:
            return Step.TAKEN
        report("event_dead", event)
        return Step.DEAD


def event_of(stored: StoredEvent, endpoint: Endpoint) -> Event:
    """Return the stored event as its handler gets it.

    Raises:
        UnusableDelivery: the endpoint's profile finds no such event in the payload,
            because the profile was changed since.
    """
    delivery = Delivery(
        body=stored.payload,
        headers=CaseInsensitiveMapping(stored.headers),
        url="",
        received_at=0,
    )
    content = endpoint.profile.parse(delivery)
    for found in endpoint.profile.events(delivery, content):
        event = make_event(
            endpoint, found, raw=delivery.body, attempt=max(1, stored.attempts)
        )
        if event.row_id == stored.row_id:
            return event
    raise UnusableDelivery("the event is not in its payload")


def _without_data(stored: StoredEvent) -> Event:
    """Return what can be told of an event before its payload is read."""
    identity = stored.identity
    return Event(
        id=identity.event_id,
        type=stored.event_type,
        source=identity.source,
        account=identity.account,
        endpoint=identity.endpoint,
        object_key=stored.object_key,
        occurred_at=None,
        data=None,
        raw=stored.payload,
        headers=stored.headers,
        attempt=max(1, stored.attempts),
        row_id=stored.row_id,
    )


def _backoff(attempts: int) -> timedelta:
    """Exponential, with full jitter: many that failed together don't return together."""
    doublings: int = 2 ** min(attempts, 16)
    ceiling = min(LONGEST_RETRY, FIRST_RETRY * doublings)
    return ceiling * random.uniform(0.1, 1)  # noqa: S311 - no secret
