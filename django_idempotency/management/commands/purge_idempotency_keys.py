from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from django_idempotency.management.durations import duration
from django_idempotency.management.interruption import Interruption
from django_idempotency.management.progress import Progress
from django_idempotency.purging import Purge
from django_idempotency.store import record_alias


class Command(BaseCommand):
    help = (
        "Delete idempotency records that have expired. Run it from cron: expired "
        "records are harmless, they only take room. Safe to interrupt, and to run twice "
        "at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            default=timedelta(0),
            metavar="DURATION",
            help="Only records that expired at least so long ago, such as 7d or 36h: "
            "this keeps records longer, never shorter, than their retention "
            "(default: 0s).",
        )
        parser.add_argument(
            "--batch-size",
            type=_positive,
            default=1000,
            metavar="N",
            help="Records to delete in one transaction (default: %(default)s).",
        )
        parser.add_argument(
            "--max-seconds",
            type=_positive,
            metavar="N",
            help="Stop after the batch in which so many seconds have passed "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Count what would be deleted, and delete nothing "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="Alias of the database to purge (default: the one that records are "
            "written to).",
        )

    def handle(self, **options: Any) -> None:
        purge = Purge.of_expired(
            using=options["database"] or record_alias(),
            for_at_least=options["older_than"],
        )
        if options["dry_run"]:
            self.stdout.write(f"Would purge {purge.count()} idempotency records.")
            return
        stop_at = None
        if options["max_seconds"] is not None:
            stop_at = time.monotonic() + options["max_seconds"]
        self._purge(purge, options["batch_size"], stop_at)

    def _purge(self, purge: Purge, batch_size: int, stop_at: float | None) -> None:
        progress = Progress(self.stderr, total=purge.count(), verb="Purging")
        purged = 0
        with Interruption() as interruption:
            for deleted in purge.batches(batch_size):
                purged += deleted
                progress.show(purged)
                if interruption.is_wanted:
                    break
                if stop_at is not None and time.monotonic() >= stop_at:
                    break
        progress.close()
        if interruption.is_wanted:
            raise CommandError(
                f"Interrupted. Purged {purged} idempotency records.", returncode=130
            )
        self.stdout.write(f"Purged {purged} idempotency records.")


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number
