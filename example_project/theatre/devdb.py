"""The development database: a PostgreSQL that keeps running until it is stopped.

It lives in ``.devdb/`` beside ``manage.py`` and serves ``runserver`` and ``migrate``
when ``DATABASE_URL`` is not set.

    python -m example_project.theatre.devdb start | stop | status | url

It trusts whoever can reach it on the loopback interface, so don't keep secrets in it on
a machine that you share.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.servers import ServerFailed, postgresql
from tests.support.servers.accounts import can_enter, own_folder, temporary_folder
from tests.support.servers.postgresql import Server

__all__ = ["main", "running", "start", "stop"]

HOME = Path(__file__).resolve().parents[2] / ".devdb"


def start(home: Path = HOME) -> Server:
    """Start the persistent server, or find the one that runs, and return it.

    Any number of processes may call this at once: one of them starts the server.

    Raises:
        ServerFailed: it does not start; the message ends with the server's own log.
    """
    with _locked(home):
        return running(home) or postgresql.start(_persistent_cluster(home), settings={})


def stop(home: Path = HOME) -> bool:
    """Stop the persistent server; ``False`` if none was running."""
    with _locked(home):
        if server := running(home):
            postgresql.stop(server)
        return server is not None


def running(home: Path = HOME) -> Server | None:
    """The persistent server if one runs."""
    return postgresql.running(home / "cluster" / "data")


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _persistent_cluster(home: Path) -> Path:
    """The folder for data, log and programs.

    A symbolic link to a folder elsewhere where the server's account can't enter the
    project, as under ``/root``.
    """
    cluster = home / "cluster"
    if not cluster.is_dir():
        cluster.unlink(missing_ok=True)  # a link whose target was cleaned away
        if can_enter(home):
            own_folder(cluster)
        else:
            elsewhere = temporary_folder("devdb-", parents=["/var/tmp"])  # noqa: S108
            cluster.symlink_to(elsewhere)
    return cluster.resolve()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it did or found what was asked, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m example_project.theatre.devdb",
        description="The development database.",
    )
    parser.add_argument("action", choices=["start", "stop", "status", "url"])
    parser.add_argument(
        "--home", type=Path, default=HOME, help="its folder (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        answer = _answer(options.action, options.home)
    except ServerFailed as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{answer or 'not running'}\n")
    return 0 if answer else 1


def _answer(action: str, home: Path) -> str | None:
    if action == "start":
        return start(home).url
    if action == "stop":
        return "stopped" if stop(home) else "was not running"
    server = running(home)
    if server is None:
        return None
    return f"running at {server.url}" if action == "status" else server.url


if __name__ == "__main__":
    sys.exit(main())
