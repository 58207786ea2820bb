from __future__ import annotations

import json
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error, connections
from django.utils import timezone

from django_idempotency.management.durations import duration, spelled
from django_idempotency.store.health import MOST, Gauges, gauges


@dataclass(frozen=True, slots=True)
class Number:
    """One line: how many wait, and since when the oldest one does."""

    name: str
    """What the limit is called."""
    count: int
    since: datetime | None
    one: str
    many: str
    remedy: str

    @property
    def age(self) -> timedelta:
        return timedelta(0) if self.since is None else _age_of(self.since)

    def __str__(self) -> str:
        count = f"{self.count:,}{' or more' if self.count >= MOST else ''}"
        what = self.one if self.count == 1 else self.many
        if self.since is None:
            return f"{count} {what}"
        oldest = "" if self.count == 1 else "the oldest "
        return f"{count} {what}, {oldest}since {_shown(self.since)}"


def _age_of(since: datetime) -> timedelta:
    # The clocks of host and database may differ a little.
    return max(timedelta(0), timezone.now() - since)


def _shown(since: datetime) -> str:
    moment = f"{since:%Y-%m-%d %H:%M:%S %Z}".rstrip()
    return f"{moment} ({spelled(_age_of(since))})"


Limits = dict[str, timedelta]
"""By name, how old the oldest one may be."""

NAMES = ("held", "dead", "backlog", "purge")


class Command(BaseCommand):
    help = (
        "Say what waits for a person, a worker or the purge, and since when. Fit for a "
        "health check: it reads by index only, and with --fail-on its exit code says "
        "whether a limit is broken."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format",
            choices=("text", "json"),
            default="text",
            help="How the numbers are written (default: %(default)s).",
        )
        parser.add_argument(
            "--fail-on",
            type=_limits,
            default={},
            metavar="LIMITS",
            help="Fail if one of these is broken, separated by commas: held, dead, "
            "backlog, purge; each alone, or with how long the oldest one may wait, such "
            "as held,dead,backlog=10m,purge=2h (default: none).",
        )
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="Alias of the database to read (default: the ones that records and "
            "events are written to).",
        )

    def handle(self, **options: Any) -> None:
        try:
            now = gauges(options["database"])
        except Error as error:
            raise CommandError(f"The database can't be read: {error}") from error
        numbers = _numbers(now)
        broken = [*_broken(numbers, options["fail_on"])]
        if options["format"] == "json":
            told = {**asdict(now), "broken": broken}
            self.stdout.write(json.dumps(told, cls=DjangoJSONEncoder))
        else:
            for number in numbers:
                self.stdout.write(str(number))
            self.stdout.write(_running(now))
        if broken:
            raise CommandError("\n".join(broken))


def _running(now: Gauges) -> str:
    text = f"{now.in_flight:,} running with a lease"
    if (since := now.oldest_in_flight_since) is None:
        return text
    return f"{text}, the first asked for {_shown(since)}"


def _numbers(now: Gauges) -> list[Number]:
    return [
        Number(
            "held",
            now.held,
            now.oldest_held_since,
            "operation is held",
            "operations are held",
            "A person has to find out what became of each: "
            "manage.py idempotency_explain tells its story",
        ),
        Number(
            "dead",
            now.dead,
            now.oldest_dead_since,
            "event is dead",
            "events are dead",
            "Mend the handler, and run each again: manage.py process_events --rerun",
        ),
        Number(
            "backlog",
            now.due,
            now.oldest_due_at,
            "event is due",
            "events are due",
            "Start a worker, or more of them: manage.py process_events",
        ),
        Number(
            "purge",
            now.expired,
            now.oldest_expired_at,
            "row is past its retention",
            "rows are past their retention",
            "Let the purge run from cron: manage.py purge_idempotency_keys",
        ),
    ]


def _broken(numbers: list[Number], limits: Limits) -> Iterator[str]:
    for number in numbers:
        limit = limits.get(number.name)
        if limit is None or not number.count or number.age < limit:
            continue
        longest = f" More than {spelled(limit)} is too long." if limit else ""
        yield f"{number.name}: {number}.{longest} {number.remedy}."


def _limits(text: str) -> Limits:
    limits = {}
    for each in text.split(","):
        name, has_limit, limit = each.strip().partition("=")
        if name not in NAMES:
            raise ArgumentTypeError(
                f"{name!r} isn't a limit; choose from {', '.join(NAMES)}"
            )
        limits[name] = duration(limit) if has_limit else timedelta(0)
    return limits
