"""The one laboratory of this process, on the stage that its settings name."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache

from django.conf import settings

from example_project.theatre.demo.places import Stage
from tests.support.servers import ServerFailed

from .playing import Player
from .runs import Laboratory

__all__ = ["laboratory", "stage"]

COMMAND_SECONDS = 60


@cache
def stage() -> Stage | None:
    """``None`` where no demo has built one."""
    text: str = getattr(settings, "LAB_STAGE", "")
    return Stage.from_json(text, manage=_manage) if text else None


@cache
def laboratory() -> Laboratory | None:
    """``None`` where there is nothing to play on.

    There is only one, since who opens the lab asks for its page before anybody else.
    """
    where = stage()
    return Laboratory(Player(where).play) if where else None


def _manage(commands: Sequence[Sequence[str]]) -> None:
    # In this process's group, which ends with the demo.
    running = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "django", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for command in commands
    ]
    for process in running:
        _, errors = process.communicate(timeout=COMMAND_SECONDS)
        if process.returncode:
            raise ServerFailed(f"A command failed:\n{errors}")
