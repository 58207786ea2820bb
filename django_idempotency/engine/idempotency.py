"""What the work sees of its operation: `request.idempotency`, `current_operation()`."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property
from typing import Literal, overload

from django.db.models import Model

from django_idempotency.conf import conf, fault_of_duration
from django_idempotency.core.json_types import J, N
from django_idempotency.core.keys import derive_key
from django_idempotency.exceptions import NoOperation

from .links import link_to
from .steps import IfUnknown, Refused, RunningSteps, Steps
from .threads import in_thread


class Idempotency:
    """The operation that a view is running in, as ``request.idempotency``."""

    def __init__(self, steps: Steps | None = None) -> None:
        self._given = steps

    @cached_property
    def _steps(self) -> Steps:
        return self._given or RunningSteps.without_key()

    @property
    def key(self) -> str | None:
        """The client's key; ``None`` if it sent none. Never pass it on: use `key_for`."""
        operation = self._steps.operation
        return None if operation is None else operation.key

    @property
    def record_id(self) -> uuid.UUID | None:
        """The primary key of the record; ``None`` without a key."""
        operation = self._steps.operation
        return None if operation is None else operation.record_id

    def key_for(self, label: str) -> str:
        """Return the key to pass to another party for the step `label`, 36 characters.

        Equal on each attempt at this operation, also after a crash, and another one for
        another key, scope or label. Without a key from the client it is random.
        """
        return self._steps.key_for(label)

    def about(self, subject: Model | str, *, amount: str = "", label: str = "") -> None:
        """Say what the operation is about, so that people find it and know it again.

        `subject` is a saved object, or a name such as the number of an order; `amount`
        is for people, such as ``"46.82 EUR"``, and `label` what the subject is called,
        by default ``str(subject)``. An operation may be about several things. It is
        written in the transaction that keeps the answer, or that remembers the next
        step; without a key nothing is.

        Raises:
            ValueError: the object isn't saved, or the name is empty.
        """
        self._steps.links.add(link_to(subject, amount, label))

    @overload
    def call(
        self,
        name: str,
        fn: Callable[[str], J],
        *,
        if_unknown: Literal["repeat", "hold"] = ...,
        refused: Refused = ...,
        reference: str = ...,
    ) -> J: ...
    @overload
    def call(
        self,
        name: str,
        fn: Callable[[str], N],
        *,
        if_unknown: Callable[[str], N | None],
        refused: Refused = ...,
        reference: str = ...,
    ) -> N: ...
    def call(
        self,
        name: str,
        fn: Callable[[str], J],
        *,
        if_unknown: IfUnknown = "repeat",
        refused: Refused = (),
        reference: str = "",
    ) -> object:
        """Make an outside call: ``fn(key)`` with the key that `key_for` gives.

        In the leased shape its start and its JSON result are committed around it, so
        that a finished call is not made again when the operation is resumed after a
        crash; `fn` then runs outside of any transaction. What `fn` returns is the
        outcome, even if it says that the other side refused. So is an error of a class
        in `refused`, and `CallRefused` is raised, by a retry as well; after any other
        error the outcome is unknown.

        `if_unknown` says what a retry does about a call that began and whose outcome is
        unknown: ``"repeat"`` makes it again with the same key, for services that honour
        keys; a function of the key looks the outcome up and returns it, or ``None`` if
        the call was not applied; ``"hold"`` answers 409 ``outcome-unknown`` until a
        person settles the record.

        `reference` is what the other side knows the call by, such as the order's number
        that it is given: the operation is found by it, as it is by the key.

        In the atomic shape, and without a key, `fn` simply runs.

        Raises:
            StepError, LeaseLost, OutcomeUnknown: nothing was called. Don't catch them.
            CallRefused: the other side has refused, now or at an earlier attempt.
            ImproperlyConfigured: an error in `refused` may as well be a lost answer.
            TypeError: the result can't be stored as JSON.
            RuntimeError: in the leased shape, inside a transaction of the view's own.
        """
        return self._steps.call(name, fn, if_unknown, refused, reference)

    def write(self, name: str, fn: Callable[[], J]) -> J:
        """Run ``fn()`` and store its JSON result in one transaction.

        When the operation is resumed after a crash it does not run again, and the same
        result is returned. It is rolled back if the lease was lost meanwhile.

        Raises:
            StepError, LeaseLost: nothing was written. Don't catch them.
            TypeError: the result can't be stored as JSON; nothing was written.
            RuntimeError: in the leased shape, inside a transaction of the view's own.
        """
        result: J = self._steps.write(name, fn)
        return result

    def extend(self, lease: timedelta | None = None) -> None:
        """Make the lease last this long from now; by default, its first length.

        In the atomic shape there is no lease, and this does nothing.

        Raises:
            LeaseLost: another request has taken the operation over. Don't catch it.
            RuntimeError: in the leased shape, inside a transaction of the view's own.
            ValueError: `lease` isn't a positive timedelta, or is as long as the retention.
        """
        self._require_possible(lease)
        self._steps.extend(lease)

    def _require_possible(self, lease: timedelta | None) -> None:
        if lease is None:
            return
        operation = self._steps.operation
        retention = operation.retention if operation else conf.IDEMPOTENCY_RETENTION
        fault = fault_of_duration(lease)
        if not fault and lease >= retention:
            fault = f"must be shorter than the retention ({retention!r})"
        if fault:
            raise ValueError(f"extend(lease={lease!r}): the lease {fault}.")

    @overload
    async def acall(
        self,
        name: str,
        fn: Callable[[str], Awaitable[J]],
        *,
        if_unknown: Literal["repeat", "hold"] = ...,
        refused: Refused = ...,
        reference: str = ...,
    ) -> J: ...
    @overload
    async def acall(
        self,
        name: str,
        fn: Callable[[str], Awaitable[N]],
        *,
        if_unknown: Callable[[str], N | None],
        refused: Refused = ...,
        reference: str = ...,
    ) -> N: ...
    async def acall(
        self,
        name: str,
        fn: Callable[[str], Awaitable[J]],
        *,
        if_unknown: IfUnknown = "repeat",
        refused: Refused = (),
        reference: str = "",
    ) -> object:
        """`call` in an async view: ``await fn(key)``.

        A client that goes away doesn't cut it: the view is cancelled when the call has
        ended and its result is remembered. So a time-out around it comes late; give
        one to the call itself.
        """
        return await self._steps.acall(name, fn, if_unknown, refused, reference)

    async def awrite(self, name: str, fn: Callable[[], J]) -> J:
        """`write` in an async view; `fn` is synchronous, as Django's transactions are."""
        result: J = await self._steps.awrite(name, fn)
        return result

    async def aextend(self, lease: timedelta | None = None) -> None:
        """`extend` in an async view."""
        await in_thread(self.extend, lease)


_current: ContextVar[Idempotency | None] = ContextVar("current_operation", default=None)


def current_operation() -> Idempotency:
    """Return the operation that is running here, for its steps and keys.

    Of a view, a webhook handler or a task, whichever is innermost; also in callbacks of
    `on_commit` of its transaction.

    Raises:
        NoOperation: none is running in this context. A key of its own for each try would
            be as good as none.
    """
    operation = _current.get()
    if operation is None:
        raise NoOperation(
            "No operation is running here. A thread of a pool, as of run_in_executor(), "
            "can't see the one that has started it: hand over the key that it needs.\n\n"
            '    key = current_operation().key_for("charge")\n'
            "    pool.submit(charge, cart, key)\n\n"
            "Outside of protected views, webhook handlers and tasks, and in a GET, there "
            "is none. Begin one:\n\n"
            '    run_once(f"charge:{order_id}", charge)'
        )
    return operation


def set_current(operation: Idempotency) -> None:
    """Let the work find its operation from now on, wherever its code stands."""
    _current.set(operation)


def key_of_event(row_id: uuid.UUID, label: str) -> str:
    """Return the key of a step of an event; the event is found by it.

    If its handler isn't running here, nothing is written with which that could be.
    """
    operation = _current.get()
    if operation is not None and operation._steps.links.row_id == row_id:
        return operation.key_for(label)
    return derive_key(row_id, label)


class Confined:
    """Forget at the end which operation was running inside.

    It stands around the commit and not only around the work, since callbacks of
    `on_commit` are the work's code.
    """

    def __enter__(self) -> None:
        self._token = _current.set(_current.get())

    def __exit__(self, *raised: object) -> None:
        _current.reset(self._token)
