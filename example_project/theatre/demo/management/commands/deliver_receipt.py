"""``manage.py deliver_receipt``: a task queue's worker, in the demo."""

from __future__ import annotations

import inspect
from argparse import ArgumentParser
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string

from django_idempotency.tasks import run_once


class Command(BaseCommand):
    help = "Call a mail task, as a worker does with each delivery from its queue."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("task", help="its dotted path")
        parser.add_argument("order", type=int)
        parser.add_argument("--unprotected", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        task, order = import_string(options["task"]), options["order"]
        if not options["unprotected"]:
            task(order)
            return
        # A key of its own for each delivery protects from nothing, and gives the task's
        # steps something to run in.
        bare = partial(inspect.unwrap(task), order)
        run_once(f"delivery:{uuid4()}", bare, lease=timedelta(minutes=1))
