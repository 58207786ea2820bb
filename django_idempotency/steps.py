"""The steps of one operation: outside calls and writes, each remembered once it is done.

`RunningSteps` simply run, in the atomic shape and without a key. `LeasedSteps` commit
what they remember, so that after a crash no finished call or write is repeated.
"""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, Literal, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from . import store
from .decisions import State
from .exceptions import LeaseLost, OutcomeUnknown
from .keys import derive_key, fresh_key
from .memory import Kind, Memory, Step, as_json
from .operations import Operation
from .store import Lease

__all__ = ["IfUnknown", "LeasedSteps", "RunningSteps", "Steps", "in_thread"]

T = TypeVar("T")

IfUnknown = Literal["repeat", "hold"] | Callable[[str], Any]
"""What to do about a call that was begun and whose outcome is unknown."""


class Steps(ABC):
    """What `request.idempotency` runs its steps with."""

    has_handed_key_out = False
    """For `guard`: whether the other side can tell a repeat."""

    def __init__(self, operation: Operation | None, memory: Memory, using: str) -> None:
        self.operation = operation
        self.memory = memory
        self.using = using

    def key_for(self, label: str) -> str:
        self.has_handed_key_out = True
        if self.operation is None:
            return fresh_key()
        return derive_key(self.operation.record_id, label)

    @abstractmethod
    def begin_call(self, name: str, if_unknown: IfUnknown) -> Step:
        """Return the step, done if it need not be called."""

    @abstractmethod
    def finish(self, step: Step, result: Any) -> Any:
        """Remember what the call returned; return it as a retry would find it."""

    @abstractmethod
    def write(self, name: str, fn: Callable[[], Any]) -> Any: ...

    @abstractmethod
    def extend(self, lease: timedelta | None) -> None: ...

    def call(self, name: str, fn: Callable[[str], Any], if_unknown: IfUnknown) -> Any:
        step = self.begin_call(name, if_unknown)
        if step.is_done:
            return step.result
        return self.finish(step, fn(self.key_for(name)))

    async def acall(
        self, name: str, fn: Callable[[str], Awaitable[Any]], if_unknown: IfUnknown
    ) -> Any:
        step = await in_thread(self.begin_call, name, if_unknown)
        if step.is_done:
            return step.result
        result = await fn(self.key_for(name))
        return await in_thread(self.finish, step, result)


running_steps: ContextVar[RunningSteps] = ContextVar("running_steps")
"""Those of the atomic operation that is running, for `guard`."""


class RunningSteps(Steps):
    """Steps that simply run, in the transaction that is open anyway.

    What a leased try of the operation has remembered is respected all the same.
    """

    @classmethod
    def without_key(cls) -> RunningSteps:
        return cls(None, Memory(), store.record_alias())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let `guard` see the operation."""
        token = running_steps.set(self)
        try:
            with store.watched(self.using):
                yield
        finally:
            running_steps.reset(token)

    def begin_call(self, name: str, if_unknown: IfUnknown) -> Step:
        _require_if_unknown(if_unknown)
        return self._asked_for(name, "call")

    def finish(self, step: Step, result: Any) -> Any:
        step.result, step.is_done = as_json(result, step.name), True
        return step.result

    def write(self, name: str, fn: Callable[[], Any]) -> Any:
        step = self._asked_for(name, "write")
        if step.is_done:
            return step.result
        try:
            with transaction.atomic(using=self.using):
                return self.finish(step, fn())
        except BaseException:
            self.memory.forget(step)
            raise

    def extend(self, lease: timedelta | None) -> None:
        """There is no lease; nothing ends."""

    def _asked_for(self, name: str, kind: Kind) -> Step:
        return self.memory.ask_for(name, kind) or self.memory.begin(name, kind)


class LeasedSteps(Steps):
    """Steps of an operation in the leased shape; also the owner's hold on its row."""

    operation: Operation

    def __init__(
        self, operation: Operation, lease: Lease, memory: Memory, using: str
    ) -> None:
        super().__init__(operation, memory, using)
        self.lease = lease
        self.state = State.IN_FLIGHT
        self.is_over = False
        """Whether the answer is kept or the key released, and that is committed."""
        self._is_lost = False

    def begin_call(self, name: str, if_unknown: IfUnknown) -> Step:
        """Commit that the call begins; a late owner doesn't get as far as calling.

        Raises:
            LeaseLost, OutcomeUnknown, StepError: nothing is called.
        """
        _require_if_unknown(if_unknown)
        step = self.memory.ask_for(name, "call")
        if step is not None and step.is_done:
            return step
        if step is None:
            step = self.memory.begin(name, "call")
        elif if_unknown == "hold":
            self._remember(State.HELD)
            raise OutcomeUnknown(f"Nobody knows whether the call {name!r} happened.")
        elif callable(if_unknown):
            store.give_connection_back(self.using)
            found = if_unknown(self.key_for(name))
            if found is not None:
                self.finish(step, found)
                return step
        # Held from now on: should this process die, nobody runs it again by itself.
        self._remember(State.HELD if if_unknown == "hold" else State.IN_FLIGHT)
        store.give_connection_back(self.using)
        return step

    def finish(self, step: Step, result: Any) -> Any:
        step.result, step.is_done = as_json(result, step.name), True
        self._remember(State.IN_FLIGHT)
        return step.result

    def write(self, name: str, fn: Callable[[], Any]) -> Any:
        step = self.memory.ask_for(name, "write")
        if step is not None:
            return step.result
        step = self.memory.begin(name, "write")
        is_written = False
        try:
            with (
                transaction.atomic(using=self.using, durable=True),
                store.watched(self.using),
            ):
                result = self._finish_write(step, fn())
                is_written = True
        except BaseException:
            self.memory.forget(step)
            # Whether the COMMIT arrived is known to the database alone: to write a
            # memory without this step over it could make the next try write twice.
            self._is_lost = self._is_lost or is_written
            raise
        return result

    def extend(self, lease: timedelta | None) -> None:
        self._require_lease()
        with transaction.atomic(using=self.using, durable=True):
            store.extend(self.lease, lease or self.lease.length, using=self.using)

    def keep(self, answer: Any) -> None:
        self._require_lease()
        with transaction.atomic(using=self.using, durable=True):
            store.keep_leased(self.lease, answer, using=self.using)
        self.is_over = True

    def release(self, failure: str | None) -> None:
        """End the lease; it writes no memory, and so may follow an unknown commit."""
        with transaction.atomic(using=self.using, durable=True):
            store.release_leased(self.lease, failure, using=self.using)
        self.is_over = True

    @property
    def is_held(self) -> bool:
        """Whether a call has raised that only a person may look into."""
        return self.state is State.HELD

    def _finish_write(self, step: Step, result: Any) -> Any:
        step.result, step.is_done = as_json(result, step.name), True
        self._require_lease()
        store.remember(
            self.lease, self.memory.effects, State.IN_FLIGHT, using=self.using
        )
        return step.result

    def _remember(self, state: State) -> None:
        self._require_lease()
        with transaction.atomic(using=self.using, durable=True):
            store.remember(self.lease, self.memory.effects, state, using=self.using)
        self.state = state

    def _require_lease(self) -> None:
        if self._is_lost:
            raise LeaseLost("It is unknown what was committed last; a retry will see.")


async def in_thread(function: Callable[..., T], *args: Any) -> T:
    """Run `function` where this request's connections live, to its end.

    Cancelling the caller cancels no transaction half-way: it waits for the end first.
    """
    running = asyncio.ensure_future(
        sync_to_async(function, thread_sensitive=True)(*args)
    )
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        with suppress(Exception):
            await running
        raise


def _require_if_unknown(if_unknown: Any) -> None:
    if if_unknown in ("repeat", "hold"):
        return
    if not callable(if_unknown) or inspect.iscoroutinefunction(if_unknown):
        raise ImproperlyConfigured(
            f'if_unknown={if_unknown!r} must be "repeat", "hold" or a function of the '
            "key that looks the outcome up and returns it, or None: not applied."
        )
