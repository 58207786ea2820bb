"""Threads that are clients of a node each, and keep their connection as a process does."""

import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, connections

from tests.concurrency.galera.shop import number_of
from tests.support import galera
from tests.support.threads import TIMEOUT
from tests.testapp.models import Order

T = TypeVar("T")


class Client(threading.Thread):
    def __init__(self, node: int, isolation: str = "read committed") -> None:
        super().__init__(daemon=True)
        self.node = node
        self.isolation = isolation
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.start()

    def run(self) -> None:
        # This thread's own settings: the others keep theirs.
        port = galera.running[0].nodes[self.node].port
        shared = connection.settings_dict
        options = {**shared["OPTIONS"], "isolation_level": self.isolation}
        connection.settings_dict = {**shared, "PORT": port, "OPTIONS": options}
        while (job := self._jobs.get()) is not None:
            job()
        connections.close_all()

    def begin(self, act: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(act())
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def do(self, act: Callable[[], T]) -> T:
        return self.begin(act).result(2 * TIMEOUT)

    def end(self) -> None:
        self._jobs.put(None)
        self.join(TIMEOUT)


@contextmanager
def clients(
    count: int = galera.SIZE,
    *,
    nodes: int = galera.SIZE,
    isolation: str = "read committed",
) -> Iterator[list[Client]]:
    """So many, in turn at each of the first nodes."""
    made = [Client(number % nodes, isolation) for number in range(count)]
    try:
        yield made
    finally:
        for each in made:
            each.end()


def at_once(crew: list[Client], act: Callable[[], T]) -> list[T]:
    barrier = threading.Barrier(len(crew))

    def meet_and_act() -> T:
        barrier.wait(TIMEOUT)
        return act()

    futures = [each.begin(meet_and_act) for each in crew]
    return [each.result(2 * TIMEOUT) for each in futures]


def execute(sql: str) -> tuple[tuple[Any, ...], ...]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchall())


def status(name: str) -> str:
    """What this thread's node says of the cluster."""
    return str(execute(f"SHOW STATUS LIKE 'wsrep_{name}'")[0][1])


def order_counts() -> list[Counter[int]]:
    """How many there are by amount, by the count of each node that is up to date."""

    def counted() -> Counter[int]:
        execute("SET wsrep_sync_wait = 1")
        return Counter(Order.objects.values_list("amount", flat=True))

    with clients() as crew:
        return [each.do(counted) for each in crew]


def one_order_each(keys: list[str]) -> list[dict[int, int]]:
    """What `order_counts` returns if there is one order of each key, on each node."""
    return [dict.fromkeys(map(number_of, keys), 1)] * galera.SIZE
