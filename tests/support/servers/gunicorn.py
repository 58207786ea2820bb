"""A project that gunicorn serves as in a deployment: several processes and threads."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from .processes import Children, listen, url_of


@contextmanager
def gunicorn(
    application: str = "django.core.wsgi:get_wsgi_application()",
    *,
    workers: int,
    threads: int,
    **environment: str,
) -> Iterator[str]:
    """Serve until the end, and yield the address."""
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        listener = stack.enter_context(closing(listen()))
        children = stack.enter_context(Children(logs))
        program = [
            *(sys.executable, "-m", "gunicorn", application),
            f"--bind=fd://{listener.fileno()}",
            f"--workers={workers}",
            f"--threads={threads}",
            "--keep-alive=30",
            "--timeout=120",
            "--no-control-socket",
        ]
        children.start("site", program, {**os.environ, **environment}, listener)
        children.ready("site", url_of(listener))
        yield url_of(listener)
