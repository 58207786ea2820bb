"""``manage.py demo`` as a process, and what it must not leave behind."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

PROJECT = Path(__file__).resolve().parents[3]


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    # Without the tests' own database and settings, as on anybody's machine.
    ours = ("DATABASE_URL", "DJANGO_SETTINGS_MODULE")
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=PROJECT,
        env=environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def pages_of(demo: subprocess.Popen[str]) -> dict[str, Any]:
    """What a demo that serves as JSON prints, as soon as all of it answers."""
    assert demo.stdout is not None
    line = demo.stdout.readline()
    if not line:
        assert demo.stderr is not None
        raise AssertionError(f"The demo did not start:\n{demo.stderr.read()}")
    pages: dict[str, Any] = json.loads(line)
    return pages


@contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="demo-test-") as name:
        Path(name).chmod(0o755)  # so that the server's account can use it too
        yield Path(name)


def processes_with(folder: Path) -> list[str]:
    """Processes that work in the folder, or were told to put temporary files there."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            told = process.environ().get("TMPDIR") == str(folder)
            if told or Path(process.cwd()).is_relative_to(folder):
                found.append(" ".join(process.cmdline()))
    return found
