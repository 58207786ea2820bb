"""A primary and its standby, the death of the one and the promotion of the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from example_project import devdb
from tests.concurrency.storm import TIMEOUT, until

__all__ = ["Pair", "pair"]

ALL = "*"
NONE = ""


@dataclass(frozen=True, slots=True)
class Pair:
    primary: devdb.Server
    standby: devdb.Server

    @property
    def url(self) -> str:
        """Whichever of the two can be written to."""
        hosts = ",".join(
            f"127.0.0.1:{server.port}" for server in (self.primary, self.standby)
        )
        return f"postgres://postgres@{hosts}/postgres?target_session_attrs=read-write"

    def kill_the_primary(self) -> None:
        postmaster = psutil.Process(self.primary.pid)
        # The postmaster first, which would do something about a child that is killed.
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=TIMEOUT)

    def promote_the_standby(self) -> None:
        (promoted,) = _ask(self.standby, "SELECT pg_promote()")
        assert promoted

    def stop_replication(self) -> None:
        """The standby takes nothing any more, and the primary doesn't mind."""
        _ask(self.standby, "ALTER SYSTEM SET primary_conninfo = ''")
        _ask(self.standby, "SELECT pg_reload_conf()")
        until(lambda: _ask(self.primary, REPLICATION) == (0,))


REPLICATION = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"


@contextmanager
def pair(*, synchronous: bool, commit: str) -> Iterator[Pair]:
    """Run both until the end.

    `commit` is PostgreSQL's `synchronous_commit`. Nothing may be written before this
    yields, since a synchronous primary waits for its standby.
    """
    settings = {
        "max_connections": "200",
        "synchronous_commit": commit,
        "synchronous_standby_names": ALL if synchronous else NONE,
    }
    with (
        devdb.temporary(settings) as primary,
        # Promoted, it has no standby of its own that it could wait for.
        devdb.temporary(
            {"synchronous_standby_names": NONE}, standby_of=primary
        ) as standby,
    ):
        state = "sync" if synchronous else "async"
        until(
            lambda: _ask(primary, f"{REPLICATION} AND sync_state = '{state}'") == (1,)
        )
        yield Pair(primary, standby)


def _ask(server: devdb.Server, sql: str) -> tuple[Any, ...]:
    with psycopg.connect(server.url, autocommit=True) as session:
        cursor = session.execute(sql)
        return (cursor.fetchone() or ()) if cursor.description else ()
