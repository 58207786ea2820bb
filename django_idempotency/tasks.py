"""The same promise for work outside of requests: tasks, commands, functions."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Collection
from datetime import timedelta
from functools import partial, wraps
from typing import Any, Literal, TypedDict, TypeVar, Unpack, get_args, overload

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model

from .core.decisions import (
    Duplicate,
    Expired,
    Held,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
)
from .core.fingerprints import NO_PAYLOAD, Fingerprint, fingerprint_of
from .core.journal import as_json
from .core.json_types import JSON, J
from .core.operations import TASK, TASKS, Operation, Scope, StoredAnswer
from .engine import running
from .engine.idempotency import Idempotency, current_operation, set_current
from .engine.reporting import report
from .engine.steps import Steps
from .engine.threads import in_thread
from .engine.work import Outcome, Ran, Result
from .exceptions import (
    AnswerExpired,
    KeyReused,
    OperationInFlight,
    OutcomeUnknown,
    name_of,
)
from .policies import IdempotencyPolicy
from .store.records import record_alias

__all__ = ["arun_once", "current_operation", "idempotent_task", "run_once"]

F = TypeVar("F", bound="Callable[..., JSON | Awaitable[JSON]]")

Copies = Literal["wait", "skip", "raise"]


class TaskTimes(TypedDict, total=False):
    """How long a task runs, waits and is remembered."""

    lease: timedelta | None
    wait: timedelta | None
    retention: timedelta | None
    tombstone: timedelta | None


class TaskOptions(TaskTimes, total=False):
    """How a task is run once."""

    copies: Copies


@overload
def run_once(
    key: str,
    fn: Callable[[], J],
    *,
    copies: Literal["wait", "raise"] = ...,
    **options: Unpack[TaskTimes],
) -> J: ...
@overload
def run_once(
    key: str, fn: Callable[[], J], *, copies: Copies, **options: Unpack[TaskTimes]
) -> J | None: ...
def run_once(key: str, fn: Callable[[], Any], **options: Unpack[TaskOptions]) -> Any:
    """Run ``fn()`` unless it has been done under this key; return its JSON result.

    The key names the work in the whole project, such as ``receipt:17``: two calls under
    one key are the same work, whatever their functions. Without `lease` the function runs in one transaction with
    its claim and its result, like a view in the atomic shape; with it, outside of any
    transaction, with its steps in `current_operation()`. If the function raises, the
    key is released: the next delivery of the task runs it again.

    `copies` says what a copy does while another one is running: ``"wait"`` up to `wait`
    (by default IDEMPOTENCY_WAIT) and then raise, ``"skip"`` and return ``None``, or
    ``"raise"`` at once. `retention` (by default IDEMPOTENCY_RETENTION) is how long the
    key is remembered: choose it longer than a queue may redeliver. For `tombstone` after
    that (by default IDEMPOTENCY_TOMBSTONE) a copy is refused and not run.

    Raises:
        OperationInFlight: another copy is running; it may still fail, so try again.
        OutcomeUnknown: the operation is held until a person settles it.
        AnswerExpired: it was done, and its result isn't kept any more.
        ValueError: the key isn't a string of 1 to 255 printable ASCII characters.
        TypeError: the key isn't a string, or the result can't be stored as JSON;
            nothing was kept.
        Exception: whatever `fn` raises.
    """
    return _run(_operation(key, options), fn, options)


def _run(operation: Operation, fn: Callable[[], Any], options: TaskOptions) -> Any:
    def work(steps: Steps) -> Outcome[Any]:
        set_current(Idempotency(steps))
        return _outcome(fn())

    result = running.run(operation, work, name_of)
    return _returned(result, operation, options)


@overload
async def arun_once(
    key: str,
    fn: Callable[[], Awaitable[J]],
    *,
    copies: Literal["wait", "raise"] = ...,
    **options: Unpack[TaskTimes],
) -> J: ...
@overload
async def arun_once(
    key: str,
    fn: Callable[[], Awaitable[J]],
    *,
    copies: Copies,
    **options: Unpack[TaskTimes],
) -> J | None: ...
async def arun_once(
    key: str, fn: Callable[[], Awaitable[Any]], **options: Unpack[TaskOptions]
) -> Any:
    """`run_once` for an async function, which needs a `lease`.

    Raises:
        ImproperlyConfigured: without a lease, since Django has no async transactions.
    """
    operation = _operation(key, options)
    if operation.lease is None:
        raise ImproperlyConfigured(ASYNC_NEEDS_LEASE)
    return await _arun(operation, fn, options)


async def _arun(
    operation: Operation, fn: Callable[[], Awaitable[Any]], options: TaskOptions
) -> Any:
    async def work(steps: Steps) -> Outcome[Any]:
        set_current(Idempotency(steps))
        return _outcome(await fn())

    result = await running.arun(operation, work, name_of)
    return await in_thread(_returned, result, operation, options)


def idempotent_task(
    *,
    key: Callable[..., str],
    name: str | None = None,
    exclude: Collection[str] = (),
    **options: Unpack[TaskOptions],
) -> Callable[[F], F]:
    """Run the function once per key, however often it is delivered.

    ::

        @shared_task(acks_late=True)
        @idempotent_task(key=lambda order_id: f"receipt:{order_id}")
        def send_receipt(order_id): ...

    It stands directly above the function, below the decorator of a task queue. `key` is
    called with the call's arguments; the options are those of `run_once`.

    The key belongs to the function: two functions may use equal ones. `name` stands for
    the function's dotted name, so that work that is under way is recognised after a
    renaming. A copy is expected to have equal arguments; those in `exclude` are not
    compared, nor is a first one called ``self`` or ``context``, which is the queue's.

    Raises:
        ImproperlyConfigured: where it is written, if an option is invalid, on an async
            function without a lease, and on one of which a process may have several,
            such as a lambda, without a `name`.
        KeyReused: at a call, if the key came with other arguments before.
        TypeError: at a call, if an argument can't be compared.
    """
    _policy(options)

    def decorate(function: F) -> F:
        if iscoroutinefunction(function) and options.get("lease") is None:
            raise ImproperlyConfigured(ASYNC_NEEDS_LEASE)
        task = _Task(function, key, name or _name_of(function), frozenset(exclude))
        if iscoroutinefunction(function):

            @wraps(function)
            async def arun(*args: Any, **kwargs: Any) -> Any:
                body = partial(function, *args, **kwargs)
                return await _arun(task.operation(args, kwargs, options), body, options)

            return arun  # type: ignore[return-value]

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            body = partial(function, *args, **kwargs)
            return _run(task.operation(args, kwargs, options), body, options)

        return run  # type: ignore[return-value]

    return decorate


OF_THE_QUEUE = {"self", "context"}
"""What Celery and `django.tasks` put before the arguments of a call, if asked to."""


class _Task:
    """A decorated function: whose keys its calls have, and what tells them apart."""

    def __init__(
        self,
        function: Callable[..., Any],
        key: Callable[..., str],
        name: str,
        exclude: Collection[str],
    ) -> None:
        self.key = key
        self.name = name
        self.signature = inspect.signature(function)
        first = next(iter(self.signature.parameters), "")
        self.exclude = {*exclude, *(OF_THE_QUEUE & {first})}

    def operation(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> Operation:
        # Bound first, so that a call with wrong arguments is told so as without us.
        arguments = self.signature.bind(*args, **kwargs)
        arguments.apply_defaults()
        compared = {
            name: value
            for name, value in arguments.arguments.items()
            if name not in self.exclude
        }
        return _operation(
            self.key(*args, **kwargs),
            options,
            path=self.name,
            fingerprint=fingerprint_of(_canonical(compared, self.name)),
        )


def _canonical(arguments: dict[str, Any], task: str) -> bytes:
    """Return bytes that are equal for equal arguments, as a queue would deliver them."""
    try:
        text = json.dumps(arguments, cls=_Arguments, allow_nan=False, sort_keys=True)
    except (RecursionError, TypeError, ValueError) as error:
        raise TypeError(
            f"The arguments of {task} can't be compared: {error}. Pass what JSON can "
            'represent, such as an id, or leave it out: exclude={"name"}.'
        ) from error
    return text.encode()


class _Arguments(DjangoJSONEncoder):
    """Understands rows of the database, which a queue would get by their ids."""

    def default(self, o: Any) -> Any:
        if isinstance(o, Model):
            return [o._meta.label, o.pk]
        return super().default(o)


def _name_of(function: Callable[..., Any]) -> str:
    name = f"{function.__module__}.{function.__qualname__}"
    if "<" in name:
        raise ImproperlyConfigured(
            f"{name} has no name of its own: functions that are made alike would share "
            'their keys. Write\n\n    @idempotent_task(key=…, name="receipts.send")'
        )
    return name


ASYNC_NEEDS_LEASE = (
    "An async function can't run in a transaction, since Django has no async "
    "transactions. Give it a lease longer than its longest step: "
    "lease=timedelta(minutes=1)."
)


def _operation(
    key: str,
    options: TaskOptions,
    *,
    path: str = "",
    fingerprint: Fingerprint = NO_PAYLOAD,
) -> Operation:
    if not isinstance(key, str):
        raise TypeError(
            f"A task's key must be a string; this one is of type {type(key).__name__}. "
            'Let it say what it is about: f"receipt:{order_id}".'
        )
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= 255):
        raise ValueError(
            "A task's key must have 1 to 255 printable ASCII characters; this one has "
            f"{len(key)} characters."
        )
    policy = _policy(options)
    waits = options.get("copies", "wait") == "wait"
    return Operation(
        scope=Scope(principal=TASKS, method=TASK, path=path),
        key=key,
        fingerprint=fingerprint,
        wait=policy.effective_wait if waits else timedelta(0),
        retention=policy.effective_retention,
        tombstone=policy.effective_tombstone,
        using=record_alias(),
        lease=policy.lease,
    )


def _policy(options: TaskOptions) -> IdempotencyPolicy:
    """Return the options, checked as those of a view.

    Raises:
        ImproperlyConfigured: if one is invalid.
    """
    if options.get("copies", "wait") not in get_args(Copies):
        raise ImproperlyConfigured('copies must be "wait", "skip" or "raise".')
    return IdempotencyPolicy(
        lease=options.get("lease"),
        wait=options.get("wait"),
        retention=options.get("retention"),
        tombstone=options.get("tombstone"),
    )


def _outcome(result: Any) -> Outcome[Any]:
    result = as_json(result, "task")
    return Outcome(
        value=result,
        commits=True,
        answer=StoredAnswer(
            status=200,
            headers=(("Content-Type", "application/json"),),
            body=json.dumps(result).encode(),
        ),
        claims_success=True,
    )


def _returned(result: Result[Any], operation: Operation, options: TaskOptions) -> Any:
    match result:
        case Ran(value):
            return value
        case Replay(answer):
            report("replayed", operation)
            return json.loads(answer.body or b"null")
        case InFlight(retry_after):
            if options.get("copies") == "skip":
                return None
            raise OperationInFlight(retry_after=retry_after)
        case Held():
            raise OutcomeUnknown("A person has to find out whether this was done.")
        case Mismatch() | Duplicate():  # a task has no window
            raise KeyReused(
                f"{operation.scope.path or 'A function'} was called under this key with "
                "other arguments before."
            )
        case Unreadable():
            raise ValueError("The stored result under this key can't be read.")
        case Expired():  # pragma: no branch - mypy proves it
            raise AnswerExpired(
                "This was done, and its result isn't kept any more. Nothing was done "
                "now. If it is another piece of work, its key has to say so."
            )
