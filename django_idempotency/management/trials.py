"""Trials of the promise on a real database: connections of their own race for one key.

The claims are those of every request, without what saves connections inside a process:
the database alone decides, as between two servers. Nothing is reported, so that no number
of a monitor counts a trial. The rows belong to a caller that no request can be.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from django.db import Error, connections
from django.db.models import QuerySet

from django_idempotency.core.decisions import InFlight, Replay
from django_idempotency.core.fingerprints import NO_PAYLOAD
from django_idempotency.core.operations import TASK, Operation, Scope, StoredAnswer
from django_idempotency.engine.claiming import Claiming
from django_idempotency.engine.record_row import RecordRow
from django_idempotency.exceptions import ClaimFailed, StoreBusy
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store import records
from django_idempotency.store.rows import Claim

from .findings import Finding, fails, ok

SCOPE = Scope(principal="doctor", method=TASK, path="idempotency_doctor")
RETENTION = timedelta(minutes=10)
"""After which the purge deletes what a doctor has left that was killed."""

TIMEOUT = 15.0
"""Seconds after which something that should have happened has not."""
SHORT = timedelta(milliseconds=300)
LONG = timedelta(seconds=5)
SLACK = timedelta(seconds=2)
"""How late a busy host may be."""

RAN, REPLAYED, TOLD_TO_WAIT = "ran", "replayed", "told to wait"

REPORT = (
    "Don't rely on this database: the work of one key may be done twice. Send what is "
    "above to the maintainers, with the kind and version of the database and of what is "
    "between."
)


class RolledBack(Exception):
    """The leader of a trial fails on purpose."""


@dataclass(slots=True)
class Trial:
    """One key, and who has run under it."""

    using: str
    operation: Operation = field(init=False)
    runs: list[str] = field(default_factory=list)
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max_workers=4)
    )

    def __post_init__(self) -> None:
        self.operation = Operation(
            scope=SCOPE,
            key=str(uuid.uuid4()),
            fingerprint=NO_PAYLOAD,
            wait=LONG,
            retention=RETENTION,
            using=self.using,
        )

    def start(
        self,
        name: str,
        work: Callable[[], None] = lambda: None,
        *,
        wait: timedelta | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> Future[tuple[str, float]]:
        """Claim the key in a thread with a connection of its own, and run."""
        return self.threads.submit(self._attempt, name, work, wait or LONG, before)

    def _attempt(
        self,
        name: str,
        work: Callable[[], None],
        wait: timedelta,
        before: Callable[[], object],
    ) -> tuple[str, float]:
        def run(claim: Claim) -> str:
            self.runs.append(name)
            work()
            records.keep(claim, StoredAnswer(status=200, headers=(), body=b"{}"))
            return RAN

        try:
            claiming = Claiming(RecordRow(self.operation), wait)
            connections[self.using].ensure_connection()
            before()
            began = time.monotonic()
            try:
                result = claiming.run(run)
            except StoreBusy:
                result = InFlight()
            return _word(result), time.monotonic() - began
        finally:
            connections[self.using].close()


def _word(result: object) -> str:
    match result:
        case str():
            return result
        case Replay():
            return REPLAYED
        case InFlight():
            return TOLD_TO_WAIT
        case _:
            return f"told {type(result).__name__}"


@contextmanager
def _trial(using: str) -> Iterator[Trial]:
    trial = Trial(using)
    try:
        yield trial
    finally:
        trial.threads.shutdown()
        # By its id, and no other row.
        _rows(using).filter(pk=trial.operation.record_id)._raw_delete(using)


def tried(using: str) -> Iterator[Finding]:
    """Try each part of the promise, and say what has come of it."""
    for name, attempt in (
        ("race", _race),
        ("wait", _bounded_wait),
        ("take-over", _take_over),
    ):
        try:
            with _trial(using) as trial:
                yield attempt(name, trial)
        except (ClaimFailed, Error, TimeoutError) as error:
            told = " ".join(str(error.__cause__ or error).split()) or repr(error)
            yield fails(
                name,
                f"it could not be tried: {type(error).__name__}: {told}",
                "Mend that, and run the doctor again.",
            )


def _race(name: str, trial: Trial) -> Finding:
    both = threading.Barrier(2)

    def racing() -> None:
        time.sleep(0.1)  # so that the other one meets an open transaction

    futures = [
        trial.start(f"racer {number}", racing, before=partial(both.wait, TIMEOUT))
        for number in range(2)
    ]
    words = sorted(future.result(TIMEOUT)[0] for future in futures)
    if words == [RAN, REPLAYED] and len(trial.runs) == 1:
        return ok(name, "two connections with one key: one ran, one got its answer")
    told = f"two connections with one key: {' and '.join(words)}"
    return fails(name, f"{told}; the work ran {len(trial.runs)} times", REPORT)


def _bounded_wait(name: str, trial: Trial) -> Finding:
    has_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        has_begun.set()
        may_end.wait(TIMEOUT)

    leader = trial.start("leader", hold)
    try:
        _require(has_begun, leader)
        word, seconds = trial.start("copy", wait=SHORT).result(TIMEOUT)
    finally:
        may_end.set()
        leader.result(TIMEOUT)
    told = f"a copy that may wait {SHORT.total_seconds()} s was {word}"
    told = f"{told} after {seconds:.1f} s"
    if word == TOLD_TO_WAIT and seconds <= (SHORT + SLACK).total_seconds():
        return ok(name, told)
    return fails(name, told, REPORT)


def _take_over(name: str, trial: Trial) -> Finding:
    has_begun, may_fail = threading.Event(), threading.Event()

    def fail() -> None:
        has_begun.set()
        may_fail.wait(TIMEOUT)
        raise RolledBack

    leader = trial.start("leader", fail)
    _require(has_begun, leader)
    copy = trial.start("copy")
    time.sleep(0.2)  # the copy waits by then; if not, it finds the key free
    may_fail.set()
    is_rolled_back = isinstance(leader.exception(TIMEOUT), RolledBack)
    word, _ = copy.result(TIMEOUT)
    again, _ = trial.start("repeat").result(TIMEOUT)
    told = f"the first attempt was rolled back, a waiting copy {word}, a repeat was {again}"
    if is_rolled_back and (word, again) == (RAN, REPLAYED):
        return ok(name, told)
    return fails(name, told, REPORT)


def _require(has_begun: threading.Event, leader: Future[tuple[str, float]]) -> None:
    """Wait until the leader has claimed the key, or raise what has kept it from that."""
    for _ in range(int(TIMEOUT * 20)):
        if has_begun.wait(0.05):
            return
        if leader.done():
            leader.result()
            break
    raise TimeoutError("The first attempt has not begun.")


def _rows(using: str) -> QuerySet[IdempotencyRecord]:
    # Not by a manager: a project's own could join tables in.
    return QuerySet(IdempotencyRecord, using=using)
