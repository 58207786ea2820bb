"""Program: kill the primary under traffic, promote its standby, and count what is lost.

    python -m tests.faults.failover --json
    python -m tests.faults.failover --asynchronous --unprotected

Clients order at a server with several processes, and try again with the same key until
they are answered; one order in four is sent twice at once. In the middle of that the
primary is killed with all its processes, and a while later the standby is promoted. At
the end every answer that a client got must be in the database that is left, once, and a
repeat must get it byte for byte.

Two kinds of damage must be seen: with ``--asynchronous`` the replication stops before
the kill, and answers are lost; with ``--unprotected`` orders are done twice.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psutil
import psycopg

from tests.support.client import new_key, post_to
from tests.support.servers import postgresql
from tests.support.servers.gunicorn import gunicorn
from tests.support.standalone import set_up, write
from tests.support.threads import TIMEOUT, until

CLIENTS = 16
PROTECTED = ("/atomic/", "/leased/")
UNPROTECTED = ("/unprotected/",)
PAUSE_SECONDS = 0.05
"""What a client waits before it tries again."""
DEADLINE_SECONDS = 60.0
ORDERS_PER_PHASE = 5
"""How many each client gets answered, at least, before and after the failover."""


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    path: str
    key: str


@dataclass(slots=True)
class Client:
    """One client's memory: what it was answered, and what it met instead."""

    answered: dict[Order, bytes] = field(default_factory=dict)
    contradicted: list[Order] = field(default_factory=list)
    """Orders of which two copies got different answers."""
    unanswered: list[Order] = field(default_factory=list)
    met: Counter[str] = field(default_factory=Counter)
    failures: int = 0


def main() -> int:
    options = _parsed(sys.argv[1:])
    os.environ.pop("DATABASE_URL", None)
    with ExitStack() as stack:
        servers = stack.enter_context(
            pair(
                synchronous=not options.asynchronous, commit=options.synchronous_commit
            )
        )
        url = f"{servers.url}&conn_max_age=600"
        os.environ["DATABASE_URL"] = url
        set_up(stack, "tests.faults.traffic_settings")
        address = stack.enter_context(gunicorn(workers=2, threads=8))
        paths = UNPROTECTED if options.unprotected else PROTECTED
        failover = Failover(servers, address, paths, options.seed)
        result = failover.run(options.seconds, cut_off=options.asynchronous)
    write(result, as_json=options.json)
    faults = ("lost", "twice", "not_replayed", "contradicted", "unanswered")
    return 1 if any(result[fault] for fault in faults) else 0


class Failover:
    def __init__(
        self, servers: Pair, address: str, paths: Sequence[str], seed: int
    ) -> None:
        self.servers = servers
        self.address = address
        self.paths = paths
        self.random = random.Random(seed)  # noqa: S311 - no secret
        self.numbers = itertools.count(1)
        self.clients = [Client() for _ in range(CLIENTS)]
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.copies = ThreadPoolExecutor(CLIENTS)

    def run(self, seconds: float, *, cut_off: bool) -> dict[str, Any]:
        from django.db import connections

        connections.close_all()
        with self.copies, ThreadPoolExecutor(CLIENTS) as threads:
            traffic = [threads.submit(self._order, client) for client in self.clients]
            try:
                self._wait_for_answers(seconds / 2)
                if cut_off:
                    self.servers.stop_replication()
                    self._wait_for_answers(0)
                before, outage = self._fail_over()
                self._wait_for_answers(seconds / 2)
            finally:
                self.is_over.set()
            for client in traffic:
                client.result(DEADLINE_SECONDS)
        return self._counts(before, outage)

    def _fail_over(self) -> tuple[int, float]:
        """Return how many were answered before, and how long nobody was."""
        self.servers.kill_the_primary()
        killed_at = time.monotonic()
        failures = [client.failures for client in self.clients]
        # Nobody is served any more, and each of them is in doubt about an order.
        until(
            lambda: all(
                client.failures > count
                for client, count in zip(self.clients, failures, strict=True)
            )
        )
        before = self._answered()
        self.servers.promote_the_standby()
        until(lambda: self._answered() > before)
        return before, time.monotonic() - killed_at

    def _answered(self) -> int:
        return sum(len(client.answered) for client in self.clients)

    def _wait_for_answers(self, seconds: float) -> None:
        """Return when each client got some more, and that time is over."""
        end = time.monotonic() + seconds
        wanted = [len(client.answered) + ORDERS_PER_PHASE for client in self.clients]
        until(
            lambda: all(
                len(client.answered) >= count
                for client, count in zip(self.clients, wanted, strict=True)
            )
        )
        self.is_over.wait(max(0.0, end - time.monotonic()))

    def _order(self, client: Client) -> None:
        while not self.is_over.is_set():
            number = next(self.numbers)
            order = Order(number, self.random.choice(self.paths), new_key())
            copy: Future[bytes | None] | None = None
            if number % 4 == 0:
                copy = self.copies.submit(self._until_answered, client, order)
            body = self._until_answered(client, order)
            if body is None:
                client.unanswered.append(order)
                continue
            client.answered[order] = body
            if copy is not None and copy.result(DEADLINE_SECONDS) != body:
                client.contradicted.append(order)

    def _until_answered(self, client: Client, order: Order) -> bytes | None:
        """Try again until it is done, as a good client does."""
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            body, word = self._sent(order)
            with self.lock:
                client.met[word] += 1
                client.failures += body is None
            if body is not None:
                return body
            time.sleep(PAUSE_SECONDS)
        return None

    def _sent(self, order: Order) -> tuple[bytes | None, str]:
        try:
            answer = post_to(self.address, order.path, order.key, amount=order.number)
        except (OSError, http.client.HTTPException) as error:
            return None, type(error).__name__
        return (answer.body if answer.status == 201 else None), answer.word

    def _counts(self, before: int, outage: float) -> dict[str, Any]:
        from tests.testapp.models import Order as Effect

        effects = Counter(Effect.objects.values_list("amount", flat=True))
        answered: dict[Order, bytes] = {}
        for client in self.clients:
            answered |= client.answered
        lost = [order for order in answered if not effects[order.number]]
        not_replayed = [
            order
            for order, body in answered.items()
            if effects[order.number] and self._sent(order) != (body, "201 replayed")
        ]
        again = Counter(Effect.objects.values_list("amount", flat=True))
        return {
            "answered_before_the_kill": before,
            "answered": len(answered),
            "lost": len(lost),
            "twice": sum(count > 1 for count in (effects | again).values()),
            "not_replayed": len(not_replayed),
            "contradicted": sum(len(client.contradicted) for client in self.clients),
            "unanswered": sum(len(client.unanswered) for client in self.clients),
            "outage_seconds": round(outage, 2),
            "met": dict(sum((client.met for client in self.clients), Counter())),
        }


@dataclass(frozen=True, slots=True)
class Pair:
    primary: postgresql.Server
    standby: postgresql.Server

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
        "synchronous_standby_names": "*" if synchronous else "",
    }
    with (
        postgresql.temporary(settings) as primary,
        # Promoted, it has no standby of its own that it could wait for.
        postgresql.temporary(
            {"synchronous_standby_names": ""}, standby_of=primary
        ) as standby,
    ):
        state = "sync" if synchronous else "async"
        until(
            lambda: _ask(primary, f"{REPLICATION} AND sync_state = '{state}'") == (1,)
        )
        yield Pair(primary, standby)


def _ask(server: postgresql.Server, sql: str) -> tuple[Any, ...]:
    with psycopg.connect(server.url, autocommit=True) as session:
        cursor = session.execute(sql)
        return (cursor.fetchone() or ()) if cursor.description else ()


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument(
        "--synchronous-commit", choices=["on", "remote_apply"], default="on"
    )
    parser.add_argument("--asynchronous", action="store_true")
    parser.add_argument("--unprotected", action="store_true")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
