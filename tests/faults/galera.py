"""A campaign's Galera: nodes that all take writes, of which one at a time is struck."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from typing import Any

import MySQLdb

from tests.faults.databases import ONE_SERVER, ORDERS, PATIENCE_SECONDS, Database
from tests.faults.mariadb import DURABLE, SESSIONS, MariaDB, connected
from tests.faults.mariadb import LEFT_OUT as LEFT_OUT_ON_MARIADB
from tests.support.galera import SIZE, Cluster, Node, cluster
from tests.support.servers import ServerFailed

SETTLED_SECONDS = 2
"""For how long all nodes have to be there; they still agree on who is for a moment."""

LEFT_OUT = {
    name: why for name, why in LEFT_OUT_ON_MARIADB.items() if name not in ONE_SERVER
}


@contextmanager
def started() -> Iterator[Database]:
    with cluster(DURABLE) as running:
        running.nodes[0].create_database()
        yield Galera(running)


UP_TO_DATE = f"SET STATEMENT wsrep_sync_wait = 1 FOR SELECT count(*) FROM {ORDERS}"  # noqa: S608


class Galera(MariaDB):
    def __init__(self, running: Cluster) -> None:
        super().__init__(running.nodes[0])
        self.nodes = running.nodes
        self._victims = cycle(running.nodes)
        self._asked = cycle(running.nodes)
        self._victim: Node | None = None
        """The one that is struck just now, and that nobody asks."""

    @property
    def ports(self) -> list[int]:
        return [node.port for node in self.nodes]

    def restart(self) -> bool:
        return self._strike(super().restart)

    def kill(self) -> bool:
        return self._strike(super().kill)

    def cut_off(self) -> bool:
        return self._strike(self._cut_off)

    def _cut_off(self) -> bool:
        victim = self._victim
        assert victim is not None
        victim.stand_still()
        try:
            others = [node for node in self.nodes if node is not victim]
            return _until(lambda: all(_size(node) == SIZE - 1 for node in others))
        finally:
            victim.go_on()

    def _strike(self, act: Callable[[], bool]) -> bool:
        self._victim = self.server = next(self._victims)
        try:
            return act() and _until(self._is_whole)
        finally:
            self._victim = None

    def _is_whole(self) -> bool:
        """Whether nobody would be left alone if the next one were struck at once."""
        for _ in range(SETTLED_SECONDS):
            if any(_size(node) != SIZE for node in self.nodes):
                return False
            time.sleep(1)
        return True

    def _end(self, *, kill: bool) -> bool:
        try:
            return super()._end(kill=kill)
        except ServerFailed:  # the others were still about to miss it
            self.server.start()
            return True

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """To each of them in turn, and no earlier than it has what is committed."""
        node = next(each for each in self._asked if each is not self._victim)
        with connected(node.url) as connection:
            # By itself: the clock of a statement that waits would be late.
            connection.cursor().execute(UP_TO_DATE)
            yield connection

    def idle(self, seconds: float) -> list[Any]:
        sleeps = "command = 'Sleep' AND time_ms > %s"
        return self._sessions(sleeps, 1000 * seconds)

    def open(self, seconds: float = 0) -> list[Any]:
        return self._sessions(f"trx_started <= now() - INTERVAL {seconds} SECOND")

    def _sessions(self, condition: str, *parameters: Any) -> list[Any]:
        found: list[Any] = []
        for node in self.nodes:
            # A node that is gone has no sessions.
            with suppress(MySQLdb.OperationalError):
                if node is not self._victim:
                    found += _asked(node, SESSIONS + condition, *parameters)
        return found


def _size(node: Node) -> int:
    """How many nodes there are, as this one says; 0: it serves nobody."""
    try:
        status = dict(_asked(node, "SHOW STATUS LIKE 'wsrep_%%'"))
    except MySQLdb.OperationalError:
        return 0
    return int(status["wsrep_cluster_size"]) if status["wsrep_ready"] == "ON" else 0


def _asked(node: Node, sql: str, *parameters: Any) -> list[Any]:
    with connected(node.url) as connection, connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return list(cursor.fetchall())


def _until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
