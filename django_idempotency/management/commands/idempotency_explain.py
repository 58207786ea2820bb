from __future__ import annotations

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.management.stories import heading, lines_of
from django_idempotency.stories.finding import Search


class Command(BaseCommand):
    help = (
        "Tell the story of one operation or webhook event: what happened when, what is "
        "not known, and what to do next."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "what",
            metavar="WHAT",
            help="A client's key; a reference such as A7C1-11BF; the id of a record or "
            "event; a provider's id of an event or object; what an operation is about, "
            "such as shop.order:7, or a customer that it is about.",
        )

    def handle(self, **options: Any) -> None:
        now = datetime.now(UTC)
        match Search(options["what"].strip()).named():
            case []:
                raise CommandError(
                    "Nothing is found. An operation is found by its key, reference or id, "
                    "by the key or reference of a call, and by what its view has said "
                    "that it is about; an event by its id or that of its object. What is "
                    "past its retention may be purged."
                )
            case [row]:
                self._tell(lines_of(row, now))
            case found:
                self._tell([heading(row, now) for row in found])
                raise CommandError(
                    f"{len(found)} are found. Repeat the command with the id of one."
                )

    def _tell(self, lines: list[str]) -> None:
        self.stdout.write("\n".join(lines))
