"""The account that a server runs under, and the folders that it can enter.

PostgreSQL and others refuse to run as root. Whoever starts one as root, as in a
container, therefore borrows an account that exists anyway; nothing is added to the
system and no permission of a folder is changed. What that account can't enter is put
where it can.
"""

import contextlib
import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import ServerFailed

# Whoever starts as root borrows the first of these that exists.
BORROWED_ACCOUNTS = ("postgres", "nobody")


def account() -> pwd.struct_passwd | None:
    """The account to borrow, or ``None`` where we are an ordinary one ourselves."""
    if os.geteuid() != 0:
        return None
    for name in BORROWED_ACCOUNTS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ServerFailed(
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
    hand_over(folder)


def temporary_folder(prefix: str, *, parents: Sequence[str] = ()) -> Path:
    """A fresh folder of the server's account, in the first parent it can enter."""
    for parent in (*parents, tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108
        if can_enter(Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
            hand_over(folder)
            return folder
    raise ServerFailed("No temporary folder is open to the account of the server.")


def hand_over(folder: Path) -> None:
    if (borrowed := account()) is not None:
        os.chown(folder, borrowed.pw_uid, borrowed.pw_gid)


def quietly() -> dict[str, Any]:
    """Options that start a program under that account, away from our terminal."""
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
