from __future__ import annotations

import signal
import threading
import time
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import InterfaceError, OperationalError, connections
from django.urls import get_resolver

from django_idempotency.exceptions import StoreUnavailable
from django_idempotency.management.heartbeat import Heartbeat
from django_idempotency.management.interruption import Interruption
from django_idempotency.management.seeing import require_seen
from django_idempotency.models import ProcessedEvent
from django_idempotency.store.events import event_alias
from django_idempotency.webhooks.endpoints import require_endpoints
from django_idempotency.webhooks.inbox import Step, process_next, reopen, rerun

SECONDS_BETWEEN_REPORTS = 10
BY = "process_events"


class Command(BaseCommand):
    help = (
        "Handle the webhook events that wait in the inbox. Any number of workers may run "
        "at once. On SIGTERM and SIGINT it finishes the current event and stops."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--endpoint",
            action="append",
            default=[],
            metavar="NAME",
            help="Handle only the events of this receiver; may be given several times "
            "(default: those of all).",
        )
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
            help="Seconds to wait when nothing is due, or the database can't be reached or is busy "
            "(default: %(default)s).",
        )
        parser.add_argument(
            "--progress",
            action="store_true",
            help="Report what was done every few seconds (default: %(default)s).",
        )
        parser.add_argument(
            "--health-file",
            type=Path,
            metavar="PATH",
            help="A file for a probe: written anew at least at each turn, with what the "
            "worker does, and deleted at its end (default: none).",
        )
        act = parser.add_mutually_exclusive_group()
        act.add_argument(
            "--rerun",
            type=uuid.UUID,
            metavar="ID",
            help="Run this one event again, which was given up or ignored, by the id of "
            "its row, and stop; needs --reason and --seen (default: %(default)s).",
        )
        act.add_argument(
            "--reopen",
            type=uuid.UUID,
            metavar="ID",
            help="Let the provider's next delivery run this one event once more, though "
            "it is processed; needs --reason and --seen (default: %(default)s).",
        )
        parser.add_argument(
            "--reason",
            default="",
            help="Why it is run again; recorded on the event (default: none).",
        )
        parser.add_argument(
            "--seen",
            default="",
            metavar="WHAT",
            help="What you have seen of the event; without it the command shows that, "
            "and does nothing (default: none).",
        )

    def handle(self, **options: Any) -> None:
        # Importing the views registers their handlers.
        _ = get_resolver().url_patterns
        for name, act in (("rerun", _rerun), ("reopen", _reopen)):
            if options[name]:
                self._act(name, act, options)
                return
        try:
            require_endpoints(options["endpoint"])
        except ValueError as error:
            raise CommandError(str(error)) from error
        file = options["health_file"]
        try:
            heart = Heartbeat(file and Path(file), self.stderr.write)
        except (OSError, ValueError) as error:
            raise CommandError(
                f"--health-file {file} can't be written: {error}"
            ) from error
        with heart:
            counts = self._work(options, heart)
        self.stdout.write(f"Handled {_listed(counts)}.")

    def _act(
        self,
        name: str,
        act: Callable[[ProcessedEvent, str], str],
        options: dict[str, Any],
    ) -> None:
        try:
            event = _found(options[name])
            require_seen(event, options["seen"])
            told = act(event, options["reason"])
        except (ValueError, ProcessedEvent.DoesNotExist) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{event.pk}: {told}")

    def _work(self, options: dict[str, Any], heart: Heartbeat) -> Counter[str]:
        counts: Counter[str] = Counter()
        reported = time.monotonic()
        with Interruption(signal.SIGTERM, signal.SIGINT) as interruption:
            while not interruption.is_wanted:
                heart.beat("at work", _listed(counts))
                step = self._step(options["endpoint"], retry=not options["until_empty"])
                if step is not None and step is not Step.NOTHING_DUE:
                    counts[step.name.lower()] += 1
                elif options["until_empty"]:
                    break
                else:
                    what = "the database" if step is None else "events"
                    heart.beat(f"waiting for {what}", _listed(counts))
                    # An idle worker doesn't hold a database connection.
                    connections.close_all()
                    interruption.wait(options["poll_seconds"])
                now = time.monotonic()
                if options["progress"] and now - reported >= SECONDS_BETWEEN_REPORTS:
                    reported = now
                    self.stdout.write(f"Handled {_listed(counts)} so far.")
        return counts

    def _step(self, endpoints: list[str], *, retry: bool) -> Step | None:
        """Take one step; ``None``: the database can't be reached for the moment.

        The worker survives a restart of the database and tries again, so that nobody
        has to start it again.
        """
        try:
            return process_next(endpoints=endpoints)
        except (OperationalError, InterfaceError, StoreUnavailable) as error:
            if not retry:
                raise
            self.stderr.write(f"The database can't be reached or is busy: {error!r}")
            return None


def _found(row_id: uuid.UUID) -> ProcessedEvent:
    rows = ProcessedEvent._base_manager.using(event_alias())
    return rows.defer("occurred_at", "payload", "headers").get(pk=row_id)


def _rerun(event: ProcessedEvent, reason: str) -> str:
    return rerun(event, reason=reason, by=BY).name.lower()


def _reopen(event: ProcessedEvent, reason: str) -> str:
    reopen(event, reason=reason, by=BY)
    return "reopened"


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
