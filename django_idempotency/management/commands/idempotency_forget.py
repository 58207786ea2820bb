from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_idempotency.models import IdempotencyRecord
from django_idempotency.store.forgetting import (
    Erasure,
    erase,
    forget_all,
    records_about,
    records_of,
    records_with_key,
    why_not_forgotten,
)
from django_idempotency.store.reruns import WITH_PAYLOAD, events_named
from django_idempotency.webhooks.inbox import drop

BY = "idempotency_forget"
MOST_SHOWN = 20


class Command(BaseCommand):
    help = (
        "Forget what operations have answered, or erase what is stored of a person, or "
        "drop the payload of a webhook event. That operations "
        "are done is remembered until their retention is over: a repeat is told so, "
        "and runs nothing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument(
            "--key", metavar="KEY", help="Forget the answers under this client's key."
        )
        which.add_argument(
            "--object",
            metavar="LABEL:PK",
            help="Forget the answers of the operations about this object, such as "
            "shop.order:7, or about this name.",
        )
        which.add_argument(
            "--principal",
            metavar="PRINCIPAL",
            help="Erase what is stored of this caller, such as auth.User:7; it reads the "
            "whole table.",
        )
        which.add_argument(
            "--event",
            metavar="EVENT",
            help="Drop the payload of this webhook event, which was given up or ignored: "
            "its id, as evt_…, or its row. It can't be run again.",
        )
        parser.add_argument(
            "--reason",
            default="",
            help="Why; recorded with each operation (default: none).",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Count what would be forgotten and forget nothing "
            "(default: %(default)s).",
        )

    def handle(self, **options: Any) -> None:
        if options["event"] is not None:
            self._drop(options)
            return
        try:
            if options["dry_run"]:
                self._count(_found(options))
                return
            erasure = _forgotten(options)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Forgot {_counted(len(erasure.done))}.")
        self._require_nothing_left(erasure)

    def _drop(self, options: dict[str, Any]) -> None:
        left = []
        found = events_named(options["event"])
        able = [each for each in found if each.state in WITH_PAYLOAD]
        if options["dry_run"]:
            self.stdout.write(f"Would drop {_payloads(len(able))}.")
            return
        dropped = 0
        for event in found:
            try:
                drop(event, reason=options["reason"], by=BY)
                dropped += 1
            except ValueError as error:
                left.append(f"{event.pk} at {event.endpoint}: {error}")
        self.stdout.write(f"Dropped {_payloads(dropped)}.")
        if left:
            raise CommandError("\n".join(["Left as they are:", *left]))

    def _count(self, found: Iterable[IdempotencyRecord]) -> None:
        able = kept = 0
        for record in found:
            able += not why_not_forgotten(record)
            kept += bool(why_not_forgotten(record))
        left = f" {_counted(kept)} would be left as they are." if kept else ""
        self.stdout.write(f"Would forget {_counted(able)}.{left}")

    def _require_nothing_left(self, erasure: Erasure) -> None:
        if not erasure.left:
            return
        lines = [
            f"{record.reference} ({record.pk}): {why}"
            for record, why in erasure.left[:MOST_SHOWN]
        ]
        raise CommandError(
            "\n".join([f"Left as they are: {_counted(len(erasure.left))}.", *lines])
        )


def _found(options: dict[str, Any]) -> Iterable[IdempotencyRecord]:
    if options["key"] is not None:
        return records_with_key(options["key"])
    if options["object"] is not None:
        return records_about(options["object"])
    return records_of(options["principal"])


def _forgotten(options: dict[str, Any]) -> Erasure:
    if options["principal"] is not None:
        return erase(options["principal"], by=BY, reason=options["reason"])
    return forget_all(_found(options), by=BY, reason=options["reason"])


def _payloads(number: int) -> str:
    return f"{number:,} payload{'' if number == 1 else 's'}"


def _counted(number: int) -> str:
    return f"{number:,} operation{'' if number == 1 else 's'}"
