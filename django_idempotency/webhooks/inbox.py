"""Stored deliveries and their worker: one step at a time, callable from anywhere."""

from __future__ import annotations

import json
import logging
import random
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from django.db import Error, transaction
from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency import signals
from django_idempotency.core.attempts import Way
from django_idempotency.core.events import EventState
from django_idempotency.core.operations import on_one_line
from django_idempotency.engine.idempotency import Confined
from django_idempotency.exceptions import (
    ClaimOutrun,
    ClaimTimedOut,
    Undecodable,
    name_of,
)
from django_idempotency.models import ProcessedEvent
from django_idempotency.store import due, reruns, rows
from django_idempotency.store import events as event_store
from django_idempotency.store.events import StoredEvent
from django_idempotency.store.rows import Claim

from .deliveries import Delivery
from .endpoints import (
    DEFAULT_MAX_ATTEMPTS,
    Endpoint,
    endpoint_named,
    event_in_row,
    require_endpoints,
)
from .events import Event, NotReady, PermanentError, pause_after, told_of
from .executing import Ending, Execution, described
from .places import UnusableDelivery
from .profiles import FACTS

logger = logging.getLogger("django_idempotency")

__all__ = ["Step", "drop", "process_next", "reopen", "rerun"]

FIRST_RETRY = timedelta(seconds=5)
"""Also how long an event is left alone after it has killed its worker."""
LONGEST_RETRY = timedelta(hours=6)
UNTIL_ANOTHER_RELEASE = timedelta(minutes=5)
"""How long an event waits that this release can't run."""


class CannotRun(Exception):
    """This release can't run the event, but another one can.

    It isn't the event that has failed, so it waits and doesn't come nearer to its end.
    """


class Step(Enum):
    """The result of one step."""

    NOTHING_DUE = auto()
    TAKEN = auto()
    """Another worker is handling it, or has finished it meanwhile."""
    PROCESSED = auto()
    IGNORED = auto()
    FAILED = auto()
    """It will be tried again."""
    DEAD = auto()


def process_next(*, endpoints: Collection[str] = ()) -> Step:
    """Handle the next due event of these endpoints' inboxes, or of any.

    First the attempt is counted, in a commit of its own, so that an event can't kill
    its workers for ever. Then the handler runs and the event is marked in one
    transaction, so that a killed worker frees the event.

    Raises:
        RuntimeError: if it is called inside a transaction.
        ValueError: there is no endpoint of that name; its module may not be imported.
        django.db.Error, StoreUnavailable: if the database can't be reached. The event
            is due again later.
    """
    require_endpoints(endpoints)
    using = event_store.event_alias()
    has_postponed = True
    while has_postponed:
        try:
            with transaction.atomic(using=using, durable=True):
                found = due.look(
                    using=using, free_after=FIRST_RETRY, endpoints=endpoints
                )
        except Error as error:
            if rows.is_conflict(error, using):
                return Step.TAKEN  # by a worker whose lock was not to be seen
            raise
        has_postponed = found.has_postponed
    if found.begun is None:
        return Step.NOTHING_DUE
    return _BegunEvent(found.begun, using).step()


def rerun(event: ProcessedEvent, *, reason: str, by: str = "") -> Step:
    """Run an event again that was given up or ignored.

    `event` is what the person saw who decided it, and the event runs only if it still
    is so: a second click does nothing. `by` and `reason` are recorded on it. If the
    handler fails, the event is dead again; it doesn't wait for a worker, since an inline
    receiver may have none.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: there is no reason, or the event is in another state, or has changed
            since it was read; the message says what has happened.
        RuntimeError: if it is called inside a transaction.
    """
    _require(event, reason)
    using = event_store.event_alias()
    with transaction.atomic(using=using, durable=True):
        attempts = reruns.begin(event, reason=reason, by=by, using=using)
    _tell("rerun", event, by, reason)
    return _BegunEvent(event.pk, using, rerun=attempts).step()


def reopen(event: ProcessedEvent, *, reason: str, by: str = "") -> None:
    """Let the provider's next delivery of a processed event run its handler once more.

    What the handler did before stays done. Nothing runs until that delivery comes: the
    payload is gone. `event`, `by` and `reason` are as in `rerun`. After it has run, the
    event is a duplicate again.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: there is no reason, or the event isn't processed, or has changed
            since it was read; the message says what has happened.
        RuntimeError: if it is called inside a transaction.
    """
    _require(event, reason)
    using = event_store.event_alias()
    with transaction.atomic(using=using, durable=True):
        reruns.reopen(event, reason=reason, by=by, using=using)
    _tell("reopen", event, by, reason)


def drop(event: ProcessedEvent, *, reason: str, by: str = "") -> None:
    """Delete the payload of an event that was given up or ignored, for good.

    It can't be run again; a further delivery of it is a duplicate until its retention is
    over, which begins anew. `event`, `by` and `reason` are as in `rerun`.

    Raises:
        ProcessedEvent.DoesNotExist: there is no such event.
        ValueError: there is no reason, or the event is in another state, or has changed
            since it was read; the message says what has happened.
        RuntimeError: if it is called inside a transaction.
    """
    _require(event, reason, "Say why its payload is dropped.")
    using = event_store.event_alias()
    with transaction.atomic(using=using, durable=True):
        reruns.drop(event, reason=reason, by=by, using=using)
    _tell("dropped", event, by, reason)


def _tell(act: str, event: ProcessedEvent, by: str, reason: str) -> None:
    logger.warning(
        "webhook %s: %s by %s",
        act,
        described(event.endpoint, event.event_type, event.event_id, event.pk),
        on_one_line(by) or "somebody",
        extra={"action": act, "endpoint": event.endpoint, "row_id": event.pk},
    )
    if act == "dropped":
        signals.dropped.send_robust(
            sender=ProcessedEvent, event=event, by=by, reason=reason
        )
        return
    signals.rerun.send_robust(
        sender=ProcessedEvent, event=event, by=by, reason=reason, act=act
    )


def _require(
    event: object, reason: str, wanted: str = "Say why the event is run again."
) -> None:
    if not isinstance(event, ProcessedEvent):
        raise TypeError(
            "Give the event that was looked at, not only its id: what has happened to it "
            "since is then noticed. Write rerun(ProcessedEvent.objects.get(pk=…), …)."
        )
    if not reason.strip():
        raise ValueError(wanted)


class _BegunEvent:
    """A stored event whose attempt has begun."""

    def __init__(
        self, row_id: uuid.UUID, using: str, *, rerun: int | None = None
    ) -> None:
        self.row_id = row_id
        self.using = using
        self.rerun = rerun
        """The number of the attempt, if a person has asked for it."""
        self.execution: Execution | None = None

    def step(self) -> Step:
        """Lock the row, run the handler and mark the event, in one transaction."""
        try:
            with Confined(), transaction.atomic(using=self.using):
                return self._run()
        except KeyboardInterrupt:
            raise
        # Also a SystemExit: it would end the worker, and each one that is started anew.
        except BaseException as error:
            if self.execution is not None:
                return _step(self.execution.after(error))
            if isinstance(error, ClaimTimedOut | ClaimOutrun):
                return Step.TAKEN
            if isinstance(error, Error) and rows.is_conflict(error, self.using):
                return Step.TAKEN
            raise

    def _run(self) -> Step:
        stored = self._take()
        if stored is None:
            return Step.TAKEN
        endpoint = endpoint_named(stored.endpoint)
        limit = (endpoint and endpoint.max_attempts) or DEFAULT_MAX_ATTEMPTS
        is_rerun = self.rerun is not None
        claim = event_store.begin_run(stored.row_id, using=self.using)
        row = _TakenRow(stored, claim, limit, is_rerun, self.using)
        self.execution = Execution(
            _without_data(stored, endpoint), row, using=self.using, age=stored.age
        )
        if endpoint is None:
            raise CannotRun(
                f"No webhook endpoint is named {stored.endpoint!r}, so its event waits. "
                "If it was renamed or removed, declare a receiver with "
                f"endpoint={stored.endpoint!r} until its events are handled; it needs "
                "no URL."
            )
        if stored.counted_attempts > limit and not is_rerun:
            raise PermanentError("each attempt killed its worker")
        self.execution.event = event_of(stored, endpoint)
        return _step(self.execution.run(endpoint))

    def _take(self) -> StoredEvent | None:
        if self.rerun is None:
            return event_store.take(self.row_id, using=self.using)
        return event_store.take_finished(self.row_id, self.rerun, using=self.using)


def _step(ending: Ending) -> Step:
    match ending:
        case Ending.PROCESSED:
            return Step.PROCESSED
        case Ending.IGNORED:
            return Step.IGNORED
        case Ending.FAILED:
            return Step.FAILED
        case Ending.DEAD:
            return Step.DEAD
        case Ending.OVERTAKEN:  # pragma: no branch - mypy proves there is no other
            return Step.TAKEN


@dataclass(frozen=True, slots=True)
class _TakenRow:
    """The row of a stored event, locked until its handler's transaction ends.

    An event whose failure can't be noted is due again all the same, since that was
    written when the attempt began.
    """

    stored: StoredEvent
    claim: Claim
    limit: int
    is_rerun: bool
    using: str

    @property
    def _way(self) -> Way:
        return Way.RERUN if self.is_rerun else Way.INBOX

    def settle(self, state: EventState, *, payload: bytes | None) -> None:
        event_store.finish(self.claim, state, self._way, payload=payload)
        self._wake_next()

    def _described(self) -> str:
        stored = self.stored
        return described(
            stored.endpoint, stored.facts.type, stored.facts.id, stored.row_id
        )

    def _wake_next(self) -> None:
        stored = self.stored
        if stored.is_ordered:
            due.wake_next(stored.endpoint, stored.facts.object_key, using=self.using)

    def is_last_attempt(self, error: BaseException) -> bool:
        if self.is_rerun or isinstance(error, NotReady | CannotRun):
            return self.is_rerun
        return self.stored.counted_attempts >= self.limit

    def fail(self, error: BaseException) -> bool:
        is_noted: bool = event_store.retry_later(
            self.stored.row_id,
            self.stored.attempts,
            name_of(error),
            after=self._pause(error),
            uses_up=not isinstance(error, NotReady | CannotRun),
            using=self.using,
        )
        # If not, the handler has committed that the event left the inbox, or another
        # worker has finished it.
        return is_noted

    def _pause(self, error: BaseException) -> timedelta:
        if isinstance(error, CannotRun):
            return UNTIL_ANOTHER_RELEASE
        return max(_backoff(self.stored.attempts), pause_after(error))

    def bury(self, error: BaseException) -> bool:
        is_buried = event_store.bury(
            self.stored.row_id,
            self.stored.attempts,
            told_of(error),
            self._way,
            using=self.using,
        )
        if is_buried and self.stored.is_ordered:
            # Otherwise it is looked at a while later.
            with suppress(Error), transaction.atomic(using=self.using):
                self._wake_next()
            logger.error(
                "webhook event_passed_over: an event of an ordered receiver is dead, and "
                "later ones of its object run without it: %s",
                self._described(),
                extra={
                    "action": "event_passed_over",
                    "endpoint": self.stored.endpoint,
                    "row_id": self.stored.row_id,
                },
            )
        return is_buried


def event_of(stored: StoredEvent, endpoint: Endpoint) -> Event:
    """Return the stored event as its handler gets it.

    Raises:
        CannotRun: the payload can't be decoded, or the endpoint's profile can't read it,
            because the profile has been changed since.
    """
    try:
        payload = stored.payload
    except Undecodable as fault:
        raise CannotRun(
            f"The payload of an event of webhook {endpoint.name!r} can't be read, so the "
            f"event waits. {fault}"
        ) from fault
    delivery = Delivery(
        body=payload,
        headers=CaseInsensitiveMapping(json.loads(stored.headers)),
        url="",
        received_at=0,
    )
    try:
        found = endpoint.profile.stored_event(delivery, stored.facts)
    except UnusableDelivery as error:
        raise CannotRun(
            f"The profile of webhook {endpoint.name!r} can't read a stored event: "
            f"{error}. It waits for a release that can."
        ) from error
    attempt = max(1, stored.attempts)
    return event_in_row(endpoint, found, stored.row_id, attempt=attempt)


def _without_data(stored: StoredEvent, endpoint: Endpoint | None) -> Event:
    """Return what is known of an event before its payload is read."""
    unsigned = frozenset(FACTS) if endpoint is None else endpoint.profile.unsigned
    raw = b""
    with suppress(Undecodable):
        raw = stored.payload
    return Event(
        **stored.facts.by_name(),
        endpoint=stored.endpoint,
        data=None,
        raw=raw,
        attempt=max(1, stored.attempts),
        row_id=stored.row_id,
        unsigned=unsigned,
    )


def _backoff(attempts: int) -> timedelta:
    """Exponential, with full jitter, so that events that failed together spread out."""
    doublings: int = 2 ** min(attempts, 16)
    ceiling = min(LONGEST_RETRY, FIRST_RETRY * doublings)
    return ceiling * random.uniform(0.1, 1)  # noqa: S311 - no secret
