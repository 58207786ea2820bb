"""The steps of one operation: outside calls and writes, each remembered once it is done.

`RunningSteps` simply run, in the atomic shape and without a key. `LeasedSteps` commit
the journal, so that after a crash no finished call or write is repeated.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Literal, TypeVar

from django.core.exceptions import ImproperlyConfigured
from django.db import DataError, transaction

from django_idempotency.conf import conf
from django_idempotency.core.decisions import RecordState
from django_idempotency.core.journal import Entry, Journal, Kind
from django_idempotency.core.keys import derive_key, fresh_key
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import (
    CallRefused,
    OutcomeUnknown,
    StepError,
    UnkeyedOutsideCall,
    name_of,
)
from django_idempotency.store import records, rows

from .links import Links
from .owner import Owner
from .threads import in_thread, to_its_end

logger = logging.getLogger("django_idempotency")

T = TypeVar("T")

IfUnknown = Literal["repeat", "hold"] | Callable[[str], Any]
"""What to do about a call that was begun and whose outcome is unknown."""


Refused = type[Exception] | tuple[type[Exception], ...]
"""Which errors of a call say that the other side has refused, and did nothing."""

LONGEST_MESSAGE = 500
"""Characters of a refusal that are remembered."""


class Steps(ABC):
    """What `request.idempotency` runs its steps with."""

    has_handed_key_out = False
    """For `outside_calls`: whether a key was handed out for the other side."""

    def __init__(
        self, operation: Operation | None, journal: Journal, links: Links
    ) -> None:
        self.operation = operation
        self.journal = journal
        self.links = links
        self._running: str | None = None
        """The name of the step that is running."""
        self._is_crowded = False
        """Whether another step has tried to begin meanwhile."""
        self._awaited: asyncio.Future[Any] | None = None
        """The last step of an async view."""

    def key_for(self, label: str) -> str:
        self.has_handed_key_out = True
        if self.links.row_id is None:
            return fresh_key()
        key = derive_key(self.links.row_id, label)
        if conf.IDEMPOTENCY_FIND_CALLS:
            # Events of the other side may name the key of the call that caused them.
            self.links.add(Link(kind=LinkKind.CALL, value=key, label=label))
        return key

    @abstractmethod
    def begin_call(self, name: str, if_unknown: IfUnknown) -> Entry:
        """Return the step; if it is done, nothing needs to be called."""

    def prepare_call(self, name: str, if_unknown: IfUnknown, reference: str) -> Entry:
        """`begin_call`, with what the call can be found by."""
        _require_if_unknown(if_unknown)
        if reference:
            self.links.add(Link(kind=LinkKind.REFERENCE, value=reference, label=name))
        return self.begin_call(name, if_unknown)

    def key_to_call_with(self, name: str) -> str:
        """Return the key for a call that is made now."""
        return self.key_for(name)

    @abstractmethod
    def finish(self, entry: Entry, result: Any) -> Any:
        """Remember what the call returned; return it as a retry would find it."""

    @abstractmethod
    def write_alone(self, name: str, fn: Callable[[], Any]) -> Any:
        """Run ``fn()`` and remember its result; no other step is running."""

    @abstractmethod
    def extend(self, lease: timedelta | None) -> None: ...

    def call(
        self,
        name: str,
        fn: Callable[[str], Any],
        if_unknown: IfUnknown,
        refused: Refused,
        reference: str,
    ) -> Any:
        refusals = _refusals(refused)
        with self._alone(name):
            entry = self.prepare_call(name, if_unknown, reference)
            if entry.is_done:
                return entry.outcome
            key = self.key_to_call_with(name)
            try:
                result = fn(key)
            except refusals as error:
                self.finish(_refused(entry), _told_by(error))
                raise CallRefused(name, **entry.result) from error
            return self.finish(entry, result)

    def write(self, name: str, fn: Callable[[], Any]) -> Any:
        with self._alone(name):
            return self.write_alone(name, fn)

    async def acall(
        self,
        name: str,
        fn: Callable[[str], Awaitable[Any]],
        if_unknown: IfUnknown,
        refused: Refused,
        reference: str,
    ) -> Any:
        refusals = _refusals(refused)

        async def called() -> Any:
            entry = await in_thread(self.prepare_call, name, if_unknown, reference)
            if entry.is_done:
                return entry.outcome
            key = self.key_to_call_with(name)
            try:
                result = await fn(key)
            except refusals as error:
                await in_thread(self.finish, _refused(entry), _told_by(error))
                raise CallRefused(name, **entry.result) from error
            return await in_thread(self.finish, entry, result)

        return await self._to_its_end(name, called)

    async def awrite(self, name: str, fn: Callable[[], Any]) -> Any:
        return await self._to_its_end(
            name, lambda: in_thread(self.write_alone, name, fn)
        )

    async def at_rest(self) -> None:
        """Wait for a step that is running, though the view has ended."""
        if self._awaited is not None:
            await to_its_end(asyncio.wait([self._awaited]))

    async def _to_its_end(self, name: str, step: Callable[[], Awaitable[Any]]) -> Any:
        """Await a step, also when the client goes away meanwhile.

        A call that is cut would have an unknown outcome, so that clients could fill the
        table with operations that are held.
        """
        with self._alone(name):
            # What was asked for together with this step, by `asyncio.gather` or the
            # like, is asked for now: nothing has begun yet.
            await asyncio.sleep(0)
            if self._is_crowded:
                raise StepError(_AT_ONCE.format(name, "another step"))
            self._awaited = asyncio.ensure_future(step())
            return await to_its_end(self._awaited)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """
        Raises:
            StepError: another step is running.
        """
        if self._running is not None:
            self._is_crowded = True
            raise StepError(_AT_ONCE.format(name, f"the step {self._running!r}"))
        self._running, self._is_crowded = name, False
        try:
            yield
        finally:
            self._running = None


TOO_LARGE = (
    "The result of the call {!r} is too large to be remembered, or too deep. A retry of "
    "the operation will treat the call as one whose outcome is unknown. Return what the "
    "next steps need, such as an id."
)

_AT_ONCE = (
    "The step {!r} was asked for at the same time as {}, or within it. A retry goes "
    "through the steps in their order, so they have to come one after the other: await "
    "each of them, without asyncio.gather() and the like. What may happen at the same "
    "time belongs into the function of one step."
)


running_steps: ContextVar[RunningSteps] = ContextVar("running_steps")
"""The steps of the atomic operation that is running, for `outside_calls`."""


class RunningSteps(Steps):
    """Steps that simply run, in the transaction that is open anyway.

    Entries that an attempt in the leased shape left in the journal are used, too.
    """

    unkeyed_call: UnkeyedOutsideCall | None = None
    """What `outside_calls` has refused, whatever the work has made of the error."""

    def __init__(
        self, operation: Operation | None, journal: Journal, using: str
    ) -> None:
        if operation is None:
            links = Links(None, retention=timedelta(0), using=using)
        else:
            retention = operation.retention
            links = Links(operation.record_id, retention=retention, using=using)
        super().__init__(operation, journal, links)
        self.using = using

    @classmethod
    def without_key(cls) -> RunningSteps:
        return cls(None, Journal(), records.record_alias())

    def __enter__(self) -> None:
        """Let `outside_calls` see the operation, while the work runs."""
        self._token = running_steps.set(self)

    def __exit__(self, *raised: object) -> None:
        """
        Raises:
            UnkeyedOutsideCall: one was refused. The provider's client may have wrapped
                the error, and the work may have passed over it.
        """
        running_steps.reset(self._token)
        if self.unkeyed_call is not None:
            raise self.unkeyed_call

    def begin_call(self, name: str, if_unknown: IfUnknown) -> Entry:
        return self._asked_for(name, "call")

    def finish(self, entry: Entry, result: Any) -> Any:
        return self.journal.finish_call(entry, result)

    def write_alone(self, name: str, fn: Callable[[], Any]) -> Any:
        entry = self._asked_for(name, "write")
        if entry.is_done:
            return entry.result
        try:
            with transaction.atomic(using=self.using):
                return entry.finish(fn())
        except BaseException:
            self.journal.forget(entry)
            raise

    def extend(self, lease: timedelta | None) -> None:
        """Do nothing: there is no lease."""

    def _asked_for(self, name: str, kind: Kind) -> Entry:
        return self.journal.ask_for(name, kind) or self.journal.begin(name, kind)


class EventSteps(RunningSteps):
    """Steps of a webhook handler: their keys are those of the event."""

    def __init__(self, row_id: uuid.UUID, using: str) -> None:
        super().__init__(None, Journal(), using)
        retention = conf.IDEMPOTENCY_EVENT_RETENTION
        self.links = Links(row_id, retention=retention, using=using)


class LeasedSteps(Steps):
    """Steps of an operation in the leased shape, committed through the row's owner."""

    operation: Operation

    def __init__(
        self, operation: Operation, owner: Owner, *, may_give_back: bool
    ) -> None:
        super().__init__(operation, owner.journal, owner.links)
        self.owner = owner
        self.may_give_back = may_give_back
        """Whether nothing had used the connection before the operation."""

    def begin_call(self, name: str, if_unknown: IfUnknown) -> Entry:
        """Commit that the call begins, so that no owner calls when its lease is over.

        Raises:
            LeaseLost, OutcomeUnknown, StepError: nothing is called.
        """
        entry = self.journal.ask_for(name, "call")
        if entry is not None and entry.is_done:
            return entry
        if entry is None:
            entry = self.journal.begin(name, "call")
        elif if_unknown == "hold":
            self.owner.remember(RecordState.HELD)
            raise OutcomeUnknown(f"It is unknown whether the call {name!r} happened.")
        elif callable(if_unknown):
            self._give_connection_back()
            found = if_unknown(self.key_for(name))
            if found is not None:
                self.finish(entry, found)
                return entry
        self.key_for(name)  # so that it is stored with what follows
        # Held from now on: if this process dies, no retry runs the operation again.
        self.owner.begin_call(
            RecordState.HELD if if_unknown == "hold" else RecordState.IN_FLIGHT
        )
        self._give_connection_back()
        return entry

    def key_to_call_with(self, name: str) -> str:
        self.owner.require_time()
        return super().key_to_call_with(name)

    def _give_connection_back(self) -> None:
        if self.may_give_back:
            rows.give_connection_back(self.operation.using)

    def finish(self, entry: Entry, result: Any) -> Any:
        self.journal.finish_call(entry, result)
        try:
            self.owner.remember()
        except DataError:  # pragma: no cover - MariaDB
            # Together with the results of other steps.
            entry.is_kept = False
            self.owner.remember()
        if not entry.is_kept:
            logger.error(TOO_LARGE.format(entry.name))
        return entry.result

    def write_alone(self, name: str, fn: Callable[[], Any]) -> Any:
        entry = self.journal.ask_for(name, "write")
        return self.owner.write(name, fn) if entry is None else entry.result

    def extend(self, lease: timedelta | None) -> None:
        self.owner.extend(lease)


def _refusals(refused: Any) -> tuple[type[Exception], ...]:
    """Return the classes of errors that state an outcome.

    Raises:
        ImproperlyConfigured: one of them may as well be a lost answer.
    """
    kinds: tuple[Any, ...] = refused if isinstance(refused, tuple) else (refused,)
    for kind in kinds:
        is_error = isinstance(kind, type) and issubclass(kind, Exception)
        if not is_error or issubclass(TimeoutError, kind):
            raise ImproperlyConfigured(
                f"refused={refused!r} must name the errors by which the other side says "
                "that it has refused, such as refused=stripe.CardError. Others, as one "
                "for a lost answer, leave the outcome unknown."
            )
    return kinds


def _refused(entry: Entry) -> Entry:
    entry.is_refused = True
    return entry


def _told_by(error: Exception) -> dict[str, str]:
    # As text that a view can send on, whatever the other side has sent.
    message = rows.storable(str(error))
    return {"error": name_of(error), "message": message[:LONGEST_MESSAGE]}


def _require_if_unknown(if_unknown: Any) -> None:
    if if_unknown in ("repeat", "hold"):
        return
    if not callable(if_unknown) or inspect.iscoroutinefunction(if_unknown):
        raise ImproperlyConfigured(
            f'if_unknown={if_unknown!r} must be "repeat", "hold" or a function of the '
            "key that looks the outcome up and returns it, or None: not applied."
        )
