"""``manage.py demo``: parse, play or serve, print."""

from __future__ import annotations

import json
import signal
import sys
from argparse import ArgumentParser
from io import TextIOWrapper
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from example_project.theatre.demo.progress import Progress
from example_project.theatre.demo.report import (
    Paint,
    addresses,
    sentence,
    table,
    way_in,
)
from example_project.theatre.demo.results import (
    Result,
    all_right,
    play_all,
    storm_did_damage,
)
from example_project.theatre.demo.stage import Stage, set_up
from tests.support.servers import ServerFailed
from tests.support.servers.processes import signals_as_exceptions


class Command(BaseCommand):
    help = (
        "Play the bad days of a web shop: double clicks, lost answers, killed workers, "
        "slow providers, events that come twenty times or too early; against real servers "
        "on this machine, with and without django_idempotency. "
        "Exits with 0 if what is protected came through all of them."
    )
    # It has servers of its own, and neither needs nor touches the settings' database.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--format",
            choices=["table", "json"],
            default="table",
            help="what to print on standard output (default: %(default)s)",
        )
        parser.add_argument(
            "--unprotected",
            action="store_true",
            help="take the protection off; the demo must then fail",
        )
        parser.add_argument(
            "--serve",
            action="store_true",
            help="play nothing, and open the shop, the admin and a lab in which you play "
            "the bad days yourself; until Ctrl-C",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        progress, results = Progress(sys.stderr), []
        stage = set_up(
            unprotected=options["unprotected"],
            progress=progress,
            with_lab=options["serve"],
        )
        as_json = options["format"] == "json"
        try:
            with signals_as_exceptions() as ignore_signals, stage as shop:
                try:
                    if options["serve"]:
                        progress.done()
                        self._serve(shop, as_json=as_json)
                        return
                    results = list(play_all(shop, progress))
                    progress.done()
                    self._print(results, as_json=as_json)
                finally:
                    ignore_signals()
        except ServerFailed as error:
            raise CommandError(str(error)) from error
        if not storm_did_damage(results):
            raise CommandError(
                "The storm did the naive checkout no harm, so it shows nothing about the "
                "others. Is this machine very busy? Please run the demo again."
            )
        if not all_right(results):
            sys.exit(1)

    def _serve(self, stage: Stage, *, as_json: bool) -> None:
        accounts = {who.name: who.password for who in (*stage.customers, stage.owner)}
        found = {**addresses(stage), "accounts": accounts}
        try:
            self._write(json.dumps(found) if as_json else way_in(stage, self._paint()))
            while True:
                signal.pause()
        except SystemExit:
            return  # by a signal: the way that this is meant to end

    def _print(self, results: list[Result], *, as_json: bool) -> None:
        if as_json:
            rows = [result.as_json() for result in results]
            self._write(json.dumps({"scenarios": rows, "ok": all_right(results)}))
        else:
            self._write(f"{table(results, self._paint())}\n\n{sentence(results)}\n")

    def _paint(self) -> Paint:
        return Paint(
            good=self.style.SUCCESS,
            bad=self.style.ERROR,
            strong=self.style.HTTP_INFO,
        )

    def _write(self, text: str) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            # A terminal that can't show a tick shall not cost the result.
            sys.stdout.reconfigure(errors="replace")
        self.stdout.write(text)
        self.stdout.flush()
