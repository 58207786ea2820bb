"""Programs that work on the test database, in processes of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from django.db import connection

Process = subprocess.Popen[str]


@contextmanager
def running(*arguments: str, **variables: str) -> Iterator[Process]:
    """Run ``python`` with these arguments until the end, or until it is killed."""
    process = subprocess.Popen(  # noqa: S603 - our own programs
        [sys.executable, *arguments],
        cwd=Path(__file__).parents[2],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def environment(**more: str) -> dict[str, str]:
    """The environment of a program that works on the test database."""
    return {
        **os.environ,
        "DATABASE_URL": _database_url(),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        **more,
    }


def _database_url() -> str:
    settings = connection.settings_dict
    user = f"{quote(settings['USER'])}:{quote(settings['PASSWORD'])}"
    name = quote(str(settings["NAME"]), safe="")
    return f"postgres://{user}@{settings['HOST']}:{settings['PORT']}/{name}"
