from __future__ import annotations

import signal
import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from django_idempotency.management.durations import duration
from django_idempotency.management.interruption import Interruption
from django_idempotency.management.progress import Progress
from django_idempotency.store.events import event_alias
from django_idempotency.store.links import LinkPurge
from django_idempotency.store.purging import Purge
from django_idempotency.store.records import record_alias

LINKS = "links of operations"


class Command(BaseCommand):
    help = (
        "Delete idempotency records and webhook events that have expired. Run it from "
        "cron; expired rows are harmless and only take up space. It may be interrupted, "
        "and may run twice at once."
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
        wanted = {"for_at_least": options["older_than"]}
        purges: dict[str, Purge | LinkPurge] = {
            "idempotency records": Purge.of_records(
                using=options["database"] or record_alias(), **wanted
            ),
            "processed events": Purge.of_events(
                using=options["database"] or event_alias(), **wanted
            ),
            LINKS: LinkPurge(using=options["database"] or record_alias(), **wanted),
        }
        if options["dry_run"]:
            counts = {name: purge.count() for name, purge in purges.items()}
            self.stdout.write(f"Would purge {_listed(counts)}.")
            return
        stop_at = None
        if options["max_seconds"] is not None:
            stop_at = time.monotonic() + options["max_seconds"]
        self._purge(purges, options["batch_size"], stop_at)

    def _purge(
        self,
        purges: dict[str, Purge | LinkPurge],
        batch_size: int,
        stop_at: float | None,
    ) -> None:
        def count_left() -> int:
            return sum(purge.count() for purge in purges.values())

        progress = Progress(self.stderr, count_left=count_left, verb="Purging")
        purged = dict.fromkeys(purges, 0)
        batches = (
            (name, deleted)
            for name, purge in purges.items()
            for deleted in purge.batches(batch_size)
        )
        with Interruption(signal.SIGINT) as interruption:
            for name, deleted in batches:
                purged[name] += deleted
                progress.show(sum(purged.values()))
                if interruption.is_wanted:
                    break
                if stop_at is not None and time.monotonic() >= stop_at:
                    break
        progress.close()
        if interruption.is_wanted:
            raise CommandError(
                f"Interrupted. Purged {_listed(purged)}.", returncode=130
            )
        self.stdout.write(f"Purged {_listed(purged)}.")


def _listed(counts: dict[str, int]) -> str:
    # Links go with the rows that they belong to, and few projects have any.
    return ", ".join(
        f"{count} {name}" for name, count in counts.items() if count or name != LINKS
    )


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} isn't a whole number above 0")
    return number
