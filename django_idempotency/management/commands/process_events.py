from __future__ import annotations

import signal
import threading
import time
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connections
from django.urls import get_resolver

from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.management.interruption import Interruption
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks.inbox import Step, process_next, rerun

SECONDS_BETWEEN_REPORTS = 10


class Command(BaseCommand):
    help = (
        "Handle the webhook events that wait in the inbox. Any number of workers may run "
        "at once. On SIGTERM and SIGINT it finishes the current event and stops."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--until-empty",
            action="store_true",
            help="Stop when nothing is due, instead of waiting for more "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--poll-seconds",
            type=_seconds,
            default=1.0,
            metavar="N",
            help="Seconds to wait when nothing is due or the database can't be reached "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--progress",
            action="store_true",
            help="Report what was done every few seconds (default: %(default)s).",
        )
        parser.add_argument(
            "--rerun",
            type=uuid.UUID,
            metavar="ID",
            help="Run this one event again, by the id of its row, and stop; needs "
            "--reason (default: %(default)s).",
        )
        parser.add_argument(
            "--reason",
            default="",
            help="Why it is run again; recorded on the event (default: none).",
        )

    def handle(self, **options: Any) -> None:
        # Importing the views registers their handlers.
        _ = get_resolver().url_patterns
        if options["rerun"]:
            self._rerun(options["rerun"], options["reason"])
            return
        counts = self._work(options)
        self.stdout.write(f"Handled {_listed(counts)}.")

    def _rerun(self, row_id: uuid.UUID, reason: str) -> None:
        try:
            step = rerun(row_id, reason=reason, by="process_events")
        except (ValueError, ProcessedEvent.DoesNotExist) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{row_id}: {step.name.lower()}")

    def _work(self, options: dict[str, Any]) -> Counter[str]:
        counts: Counter[str] = Counter()
        reported = time.monotonic()
        with Interruption(signal.SIGTERM, signal.SIGINT) as interruption:
            while not interruption.is_wanted:
                step = self._step(retry=not options["until_empty"])
                if step is not None and step is not Step.NOTHING_DUE:
                    counts[step.name.lower()] += 1
                elif options["until_empty"]:
                    break
                else:
                    # An idle worker doesn't hold a database connection.
                    connections.close_all()
                    interruption.wait(options["poll_seconds"])
                now = time.monotonic()
                if options["progress"] and now - reported >= SECONDS_BETWEEN_REPORTS:
                    reported = now
                    self.stdout.write(f"Handled {_listed(counts)} so far.")
        return counts

    def _step(self, *, retry: bool) -> Step | None:
        """Take one step; ``None``: the database can't be reached for the moment.

        The worker survives a restart of the database and tries again, so that nobody
        has to start it again.
        """
        try:
            return process_next()
        except (OperationalError, InterfaceError, StoreUnavailable) as error:
            if not retry:
                raise
            self.stderr.write(f"The database can't be reached: {error!r}")
            return None


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < threading.TIMEOUT_MAX:
        raise ArgumentTypeError(f"{text!r} isn't a number of seconds, 0 or more")
    return seconds


def _listed(counts: Counter[str]) -> str:
    named = [f"{count} {name}" for name, count in sorted(counts.items())]
    return ", ".join(named) or "nothing"
