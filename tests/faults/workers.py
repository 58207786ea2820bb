"""Program: processes in the background, each started again whenever it dies.

Two handle the inbox, and one purges what has expired, again and again.
"""

import os
import random
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO
from uuid import uuid4

import django
from django.utils import timezone

from tests.faults.plans import PURGE, WORKER, Fault

EXPIRED = 60
"""How many records, and as many events, are made for each purge."""

OLD = "old"
"""The key of those records, and the endpoint of those events."""


def main() -> None:
    django.setup()
    from tests.faults import shop  # noqa: F401 - once, before the children are forked

    works = {_started(work): work for work in (_handle, _handle, _purge)}
    while True:
        child, _ = os.wait()
        time.sleep(0.05)  # the database may be down
        work = works.pop(child)
        works[_started(work)] = work


def _started(work: Callable[[IO[str]], None]) -> int:
    if child := os.fork():
        return child
    random.seed(os.getpid())  # or all would have the parent's jitter
    with suppress(Exception), Path(os.devnull).open("w") as nowhere:
        work(nowhere)
    os._exit(1)


def _handle(nowhere: IO[str]) -> None:
    from django.core.management import call_command

    from django_idempotency.management.commands import process_events
    from django_idempotency.webhooks.inbox import Step, process_next
    from tests.faults.points import Armed, fault_for

    waiting: Armed | None = None

    def process_next_with_fault(**options: object) -> Step:
        """Let a fault wait until something is due; then it may strike."""
        nonlocal waiting
        if waiting is None:
            fault = fault_for(WORKER)
            waiting = None if fault is None else Armed(fault)
        if waiting is None:
            return process_next()
        armed, step = waiting, None
        armed.passed.clear()
        try:
            with armed.running():
                step = process_next()
        finally:
            if armed.has_struck or step not in (None, Step.NOTHING_DUE):
                waiting = None
        if armed.fault.act == "record" and waiting is None:
            armed.log_passed()
        return step

    process_events.process_next = process_next_with_fault  # type: ignore[attr-defined]
    call_command("process_events", poll_seconds=0.05, stdout=nowhere, stderr=nowhere)


def _purge(nowhere: IO[str]) -> None:
    """Purge beside the traffic; what has not expired must not be touched by it."""
    from django.core.management import call_command

    from tests.faults.points import Armed, fault_for, tell

    is_recorded = False
    while True:
        _make_expired()
        fault = fault_for(PURGE)
        if fault is None and not is_recorded:
            fault = Fault(run=0, kind=PURGE, act="record")
        armed = None if fault is None else Armed(fault)
        arguments = ("purge_idempotency_keys", f"--batch-size={EXPIRED // 3}")
        with nullcontext() if armed is None else armed.running():
            call_command(*arguments, stdout=nowhere, stderr=nowhere)
        if armed is not None and armed.fault.act == "record":
            armed.log_passed()
            is_recorded = True
        tell({"purge left": _count_expired()})
        time.sleep(0.1)


def _make_expired() -> None:
    from django_idempotency.models import IdempotencyRecord, ProcessedEvent

    now = timezone.now()
    ages = [timedelta(seconds=number) for number in range(1, EXPIRED + 1)]
    IdempotencyRecord._base_manager.bulk_create(
        IdempotencyRecord(
            id=uuid4(),
            key=OLD,
            state="released",
            created_at=now,
            expires_at=now - age,
        )
        for age in ages
    )
    ProcessedEvent._base_manager.bulk_create(
        ProcessedEvent(
            id=uuid4(),
            endpoint=OLD,
            event_id=str(age.seconds),
            state="processed",
            received_at=now,
            expires_at=now - age,
        )
        for age in ages
    )


def _count_expired() -> int:
    from django_idempotency.models import IdempotencyRecord, ProcessedEvent

    records = IdempotencyRecord._base_manager.filter(key=OLD)
    return records.count() + ProcessedEvent._base_manager.filter(endpoint=OLD).count()


if __name__ == "__main__":
    main()
