"""``manage.py deliver_receipt``: a task queue's worker, in the demo."""

from __future__ import annotations

import inspect
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string


class Command(BaseCommand):
    help = "Call a mail task, as a worker does with each delivery from its queue."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="its dotted path")
        parser.add_argument("order", type=int)
        parser.add_argument("--unprotected", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        task = import_string(options["task"])
        if options["unprotected"]:
            task = inspect.unwrap(task)
        task(options["order"])
