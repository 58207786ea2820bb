from __future__ import annotations

import json
import uuid
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.management.seeing import require_seen
from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.records import record_alias


class Command(BaseCommand):
    help = (
        "Settle a held operation, once you know whether the call with the unknown "
        "outcome has happened. The client's retry then goes on, or calls again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "record", type=uuid.UUID, metavar="ID", help="The record's id."
        )
        outcome = parser.add_mutually_exclusive_group(required=True)
        outcome.add_argument(
            "--applied",
            type=_json,
            metavar="RESULT",
            help="It has happened: what the call would have returned, as JSON, such as "
            """'{"id": "ch_1"}' or null.""",
        )
        outcome.add_argument(
            "--not-applied",
            action="store_true",
            help="It has not happened; the retry calls again.",
        )
        parser.add_argument(
            "--reason",
            required=True,
            help="How you found out; recorded with the operation.",
        )
        parser.add_argument(
            "--seen",
            default="",
            metavar="WHAT",
            help="What you have seen of the record; without it the command shows that, "
            "and settles nothing (default: none).",
        )

    def handle(self, **options: Any) -> None:
        records = IdempotencyRecord._base_manager.using(record_alias())
        try:
            record = records.get(pk=options["record"])
            require_seen(record, options["seen"])
            record.settle(
                applied=not options["not_applied"],
                result=options["applied"],
                reason=options["reason"],
                by="settle_idempotency_key",
            )
        except (IdempotencyRecord.DoesNotExist, TypeError, ValueError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Settled {record.pk}: the key is free for a retry.")


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} isn't valid JSON: {error}") from error
