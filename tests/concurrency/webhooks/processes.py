"""Processes of their own that work on the test database, and may be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.concurrency.servers import environment

__all__ = ["process", "worker"]

Process = subprocess.Popen[str]


@contextmanager
def process(*arguments: str) -> Iterator[Process]:
    """Run ``python`` with these arguments until the end, or until it is killed."""
    settings = "tests.concurrency.webhooks.settings"
    started = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[3],
        env=environment(DJANGO_SETTINGS_MODULE=settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@contextmanager
def worker(*options: str) -> Iterator[Process]:
    """Run ``manage.py process_events``."""
    with process(
        "-m", "django", "process_events", "--poll-seconds=0.02", *options
    ) as started:
        yield started
