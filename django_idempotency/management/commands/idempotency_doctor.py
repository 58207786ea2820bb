from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error, connections

from django_idempotency.management import examining
from django_idempotency.management.findings import Finding, Verdict, fails, ok
from django_idempotency.management.trials import tried
from django_idempotency.store.dialects import dialect_of
from django_idempotency.store.records import record_alias


class Command(BaseCommand):
    help = (
        "Prove on your database that the promise holds there: connections of its own "
        "race for one key, and all is asked that the promise depends on. It touches "
        "only rows of its own, which it removes, and may run under traffic."
    )
    # They are among what it finds.
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--database",
            choices=tuple(connections),
            help="Alias of the database to examine (default: the one that records are "
            "written to).",
        )
        parser.add_argument(
            "--format",
            choices=("text", "json"),
            default="text",
            help="How the findings are written (default: %(default)s).",
        )

    def handle(self, **options: Any) -> None:
        found: list[Finding] = []
        for finding in _findings(options["database"] or record_alias()):
            found.append(finding)
            if options["format"] == "text":
                self.stdout.write(str(finding))
        if options["format"] == "json":
            self.stdout.write(json.dumps([asdict(finding) for finding in found]))
        if failed := [each.name for each in found if each.verdict is Verdict.FAILS]:
            raise CommandError(f"It fails: {', '.join(failed)}.")


def _findings(alias: str) -> Iterator[Finding]:
    connection = connections[alias]
    try:
        connection.ensure_connection()
        dialect_of(connection)
    except Error as error:
        told = " ".join(str(error).split())
        yield fails("connection", told, f"Mend DATABASES[{alias!r}], or the server")
        return
    yield ok("connection", f"{connection.display_name} answers, as {alias!r}")
    for name, examined in _examinations(alias):
        try:
            found = [*examined]
        except Error as error:
            told = " ".join(str(error).split())
            found = [fails(name, f"it could not be asked: {told}", "Mend that first")]
        yield from found
        if name in NEEDED and any(each.verdict is Verdict.FAILS for each in found):
            return
    yield from tried(alias)


NEEDED = ("migrations", "grants")
"""Without these nothing else can be tried."""


def _examinations(using: str) -> Iterator[tuple[str, Iterable[Finding]]]:
    yield "router", examining.routing()
    yield "checks", examining.system_checks(using)
    yield "isolation", examining.isolation(using)
    yield "clock", examining.clock(using)
    yield "pooling", examining.pooling(using)
    yield "updates", examining.updates(using)
    yield "migrations", examining.pending_migrations(using)
    yield "grants", examining.grants(using)
    yield "purge", examining.purge_lag(using)
