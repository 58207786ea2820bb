"""PostgreSQL as somebody who wishes it ill sees it."""

from __future__ import annotations

import os
import signal

import psutil

from example_project.devdb import Server
from example_project.postgres_programs import Programs

__all__ = ["Postgres"]

PATIENCE_SECONDS = 60


class Postgres:
    """A server that comes back after each end, at the same address."""

    def __init__(self, server: Server) -> None:
        self.server = server
        folder = server.data.parent
        self.programs = Programs(copy_to=folder / "programs", log=folder / "log")

    def restart(self) -> bool:
        """Shut it down without a checkpoint; say whether it came back."""
        return self._pg_ctl("restart", "-m", "immediate")

    def kill(self) -> bool:
        """kill -9 of the first process: nobody tells the sessions, nobody cleans up."""
        pid_file = self.server.data / "postmaster.pid"
        first = psutil.Process(int(pid_file.read_text().split("\n")[0]))
        others = first.children(recursive=True)
        os.kill(first.pid, signal.SIGKILL)
        # They notice by themselves. While one is left, no new server may start.
        if psutil.wait_procs(others, timeout=PATIENCE_SECONDS)[1]:
            return False
        # The number in it may be that of a zombie, which PostgreSQL takes for alive.
        pid_file.unlink(missing_ok=True)
        return self._pg_ctl("start", "-o", f"-p {self.server.port}")

    def _pg_ctl(self, action: str, *options: str) -> bool:
        wait = ("-w", "-t", PATIENCE_SECONDS, "-D", self.server.data)
        return self.programs.run("pg_ctl", action, *options, *wait)
