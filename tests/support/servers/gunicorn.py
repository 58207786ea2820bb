"""The busy shop, served by gunicorn as in a deployment: several processes and threads."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from example_project.demo.processes import Children, listen, url_of

__all__ = ["gunicorn"]


@contextmanager
def gunicorn(*, workers: int, threads: int, **environment: str) -> Iterator[str]:
    """Serve until the end, and yield the address."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        listener = stack.enter_context(closing(listen()))
        children = stack.enter_context(Children(logs))
        program = [
            *(sys.executable, "-m", "gunicorn"),
            "django.core.wsgi:get_wsgi_application()",
            f"--bind=fd://{listener.fileno()}",
            f"--workers={workers}",
            f"--threads={threads}",
            "--keep-alive=30",
            "--timeout=120",
            "--no-control-socket",
        ]
        settings = {"DJANGO_SETTINGS_MODULE": "tests.faults.traffic_settings"}
        children.start(
            "shop", program, {**os.environ, **settings, **environment}, listener
        )
        children.ready("shop", url_of(listener))
        yield url_of(listener)
