from __future__ import annotations

import math
import signal
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.core.management.base import BaseCommand, CommandError, OutputWrapper
from django.db import connections

from django_idempotency.management.durations import duration
from django_idempotency.management.interruption import Interruption
from django_idempotency.management.progress import Progress
from django_idempotency.store.events import event_alias
from django_idempotency.store.hours import HourPurge
from django_idempotency.store.links import LinkPurge
from django_idempotency.store.purging import Purge
from django_idempotency.store.records import record_alias

ANSWERS = "answers of remembered operations"
LINKS = "links of operations"
INTENTS = "intents of operations"
HOURS = "counts of hours"

AnyPurge = Purge | LinkPurge | HourPurge

TABLES: dict[str, tuple[Callable[..., AnyPurge], Callable[[], str]]] = {
    # First, so that what is left of the others is seen at once.
    ANSWERS: (Purge.of_answers, record_alias),
    "idempotency records": (Purge.of_records, record_alias),
    "processed events": (Purge.of_events, event_alias),
    LINKS: (LinkPurge, record_alias),
    INTENTS: (Purge.of_intents, record_alias),
    HOURS: (HourPurge, record_alias),
}

PAUSE = 0.2
"""Seconds between two tries while others keep the database busy."""

BUSY = (
    "Others have kept the database busy for {:.0f} seconds, and nothing could be deleted "
    "in that time. Purged {}; what was deleted stays deleted, and the next run goes on "
    "from there. Find out who holds the lock for so long, or let the purge wait longer "
    "(--patience). If the database has ended its statements for being slow, give it fewer "
    "rows at a time (--batch-size)."
)


class Command(BaseCommand):
    help = (
        "Delete idempotency records and webhook events that have expired, and the answers "
        "of those that leave a tombstone. Run it from cron; expired rows are harmless and "
        "only take up space. It may be interrupted, and may run twice at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            default=timedelta(0),
            metavar="DURATION",
            help="Delete only rows that expired at least this long ago, such as 7d or "
            "36h: it keeps rows longer than their retention, never shorter "
            "(default: 0s).",
        )
        parser.add_argument(
            "--batch-size",
            type=_positive,
            default=5000,
            metavar="N",
            help="Rows to delete in one transaction (default: %(default)s).",
        )
        parser.add_argument(
            "--max-seconds",
            type=_positive,
            metavar="N",
            help="Stop after the batch in which this many seconds are over "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--patience",
            type=duration,
            default=timedelta(minutes=5),
            metavar="DURATION",
            help="Give up when others have kept the database busy for so long that "
            "nothing could be done (default: 5m).",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Count what would be deleted and delete nothing "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="Alias of the database to purge (default: the ones that records and "
            "events are written to).",
        )

    def handle(self, **options: Any) -> None:
        interruption = Interruption(signal.SIGINT)
        run = _Run(self.stderr, interruption, options)
        if options["dry_run"]:
            self.stdout.write(f"Would purge {_listed(run.counts())}.")
            return
        with interruption:
            self.stdout.write(f"Purged {_listed(run.purge())}.")


class _Run:
    """What is purged, and since when the database has let nothing be done."""

    def __init__(
        self, err: OutputWrapper, interruption: Interruption, options: dict[str, Any]
    ) -> None:
        self._interruption = interruption
        self._options = options
        self._progress = Progress(
            err, count_left=lambda: sum(self.counts().values()), verb="Purging"
        )
        self._purged = dict.fromkeys(TABLES, 0)
        self._last_done = time.monotonic()
        seconds = options["max_seconds"] or math.inf
        self._stop_at = self._last_done + seconds
        self._patience = min(options["patience"].total_seconds(), seconds)

    @cached_property
    def _purges(self) -> dict[str, AnyPurge]:
        return {
            name: begin(
                using=self._options["database"] or alias(),
                for_at_least=self._options["older_than"],
                when_busy=self._wait,
            )
            for name, (begin, alias) in TABLES.items()
        }

    def counts(self) -> dict[str, int]:
        return {name: purge.count() for name, purge in self._purges.items()}

    def purge(self) -> dict[str, int]:
        """Delete what has expired, and return how much that was.

        Raises:
            CommandError: it was interrupted, or others kept the database busy.
        """
        for name, deleted in self._batches():
            self._purged[name] += deleted
            self._last_done = time.monotonic()
            self._progress.show(sum(self._purged.values()))
            self._stop_if_wanted()
            if self._last_done >= self._stop_at:
                break
        self._progress.close()
        return self._purged

    def _batches(self) -> Iterator[tuple[str, int]]:
        for name, purge in self._purges.items():
            for deleted in purge.batches(self._options["batch_size"]):
                yield name, deleted

    def _wait(self) -> None:
        """Let others go first; the purge holds nothing meanwhile."""
        waited = time.monotonic() - self._last_done
        if waited >= self._patience:
            self._progress.close()
            raise CommandError(BUSY.format(waited, _listed(self._purged)))
        self._progress.wait(sum(self._purged.values()))
        self._interruption.wait(PAUSE)
        self._stop_if_wanted()

    def _stop_if_wanted(self) -> None:
        if self._interruption.is_wanted:
            self._progress.close()
            raise CommandError(
                f"Interrupted. Purged {_listed(self._purged)}.", returncode=130
            )


def _listed(counts: dict[str, int]) -> str:
    # Links go with the rows that they belong to, and few projects have any, or
    # tombstones.
    return ", ".join(
        f"{count} {name}"
        for name, count in counts.items()
        if count or name not in (ANSWERS, LINKS, INTENTS, HOURS)
    )


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} isn't a whole number above 0")
    return number
