"""Program: keep four server processes busy with 64 clients, and look for what breaks.

    python -m tests.faults.load --minutes 5 --json

Nine requests in ten are first calls. The others are repeats, and storms in which all
clients send one hot key at the same time. In the middle 20 copies wait for one slow
key, while the rest has to go on being served; each process has a pool of 5 connections.
Counted are answers, what was committed, what the database says of deadlocks and
sessions, and the memory of each process at the beginning and at the end.
"""

import argparse
import http.client
import itertools
import random
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil
from django.db import connection

from tests.support.client import Answer, connected, exchange, new_key, told
from tests.support.servers.gunicorn import gunicorn
from tests.support.standalone import set_up, write
from tests.support.threads import second_connection, until

PROCESSES = 4
POOL = 5
CLIENTS = 64
REPEATS = 0.05
"""The share of requests that repeat one of the client's own, and of those in storms."""
COPIES = 20
SERVED_MEANWHILE = 50
"""How many others must be answered while the copies of the slow key wait."""

FAULTS = ("broken", "server_errors", "deadlocks", "not_once", "open_transactions")


@dataclass(frozen=True, slots=True)
class Order:
    number: int
    key: str


def main() -> int:
    options = _parsed(sys.argv[1:])
    with ExitStack() as stack:
        set_up(stack, "tests.faults.traffic_settings")
        servers = gunicorn(
            workers=PROCESSES,
            threads=CLIENTS // PROCESSES,
            **{"TRAFFIC_POOL": str(POOL)},
        )
        with servers as address:
            load = Load(address, options.seed)
            result = load.run(options.minutes * 60)
        # The sessions have ended, and with them all has been counted.
        result |= {"deadlocks": _number("SELECT deadlocks FROM pg_stat_database")}
    write(result, as_json=options.json)
    return 1 if any(result[fault] for fault in FAULTS) else 0


class Client:
    """One connection, kept open, as a proxy's is."""

    def __init__(self, address: str) -> None:
        self.connection = connected(address, timeout=120)

    def post(self, path: str, order: Order) -> Answer:
        headers = {"Idempotency-Key": order.key}
        return exchange(self.connection, path, {"amount": order.number}, headers)


class Load:
    def __init__(self, address: str, seed: int) -> None:
        self.address = address
        self.seed = seed
        self.numbers = itertools.count(1)
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.words: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.sent = self.broken = self.sent_away = 0
        self.done: set[int] = set()
        """The numbers of the orders that a client was told are placed."""
        self.storm = self._new_order()
        self.memory: list[dict[int, int]] = []
        self.sessions: list[int] = []

    def _new_order(self) -> Order:
        return Order(next(self.numbers), new_key())

    def run(self, seconds: float) -> dict[str, Any]:
        began = time.monotonic()
        with ThreadPoolExecutor(CLIENTS + 1) as threads:
            running = [threads.submit(self._shop, n) for n in range(CLIENTS)]
            running.append(threads.submit(self._watch))
            try:
                self.is_over.wait(seconds / 2)
                slow = self._crowd_at_a_slow_key()
                self.is_over.wait(began + seconds - time.monotonic())
            finally:
                self.is_over.set()
            for each in running:
                each.result()
        return self._counts(time.monotonic() - began) | slow

    def _shop(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number}")  # noqa: S311 - no secret
        client = Client(self.address)
        storm, mine = None, [self._new_order()]
        while not self.is_over.is_set():
            if storm is not self.storm:
                storm = self.storm
                self._send(client, "storm", storm)
            elif chance.random() < REPEATS:
                self._send(client, "repeat", chance.choice(mine))
            else:
                order = self._new_order()
                self._send(client, "first", order)
                mine = [order, *mine[:9]]
        client.connection.close()

    def _send(self, client: Client, kind: str, order: Order) -> None:
        path = "/leased/" if order.number % 4 == 0 else "/atomic/"
        began = time.monotonic()
        try:
            answer = client.post(path, order)
        except (OSError, http.client.HTTPException):
            client.connection.close()
            with self.lock:
                self.broken += 1
            return
        took = time.monotonic() - began
        with self.lock:
            self.words[kind][answer.word] += 1
            self.seconds[kind].append(took)
            self.sent += 1
            if answer.status == 201:
                self.done.add(order.number)
            if self.sent % round(CLIENTS / REPEATS) == 0:
                self.storm = self._new_order()

    def _crowd_at_a_slow_key(self) -> dict[str, Any]:
        """Let copies wait for a slow key until enough others have been served."""
        from tests.faults.traffic_shop import SLOW

        order = self._new_order()
        with second_connection() as session, ThreadPoolExecutor(COPIES + 1) as threads:
            session.set_autocommit(False)
            with session.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [SLOW])
            crowd = [threads.submit(self._insist, order) for _ in range(COPIES + 1)]
            try:
                until(lambda: self.sent_away >= COPIES)
                began, before = time.monotonic(), self.sent
                until(lambda: self.sent >= before + SERVED_MEANWHILE)
                took = time.monotonic() - began
            finally:
                session.rollback()  # the slow view goes on
            answers = [each.result() for each in crowd]
        self.done.add(order.number)
        return {
            "served_while_copies_wait": SERVED_MEANWHILE,
            "seconds_for_that": round(took, 2),
            "slow_key": {"409 in-flight": self.sent_away, **told(answers)},
        }

    def _insist(self, order: Order) -> Answer:
        client = Client(self.address)
        while (answer := client.post("/slow/", order)).status == 409:
            with self.lock:
                self.sent_away += 1
        client.connection.close()
        return answer

    def _watch(self) -> None:
        while not self.is_over.wait(1):
            self.memory.append(
                {worker.pid: worker.memory_info().rss for worker in _workers()}
            )
            self.sessions.append(_count("pid <> pg_backend_pid()"))
        connection.close()

    def _counts(self, seconds: float) -> dict[str, Any]:
        effects = Counter(_amounts())
        words = sum((Counter(each) for each in self.words.values()), Counter[str]())
        return {
            "seconds": round(seconds, 1),
            "requests": self.sent,
            "answers": {kind: dict(words) for kind, words in self.words.items()},
            "broken": self.broken,
            "server_errors": sum(n for word, n in words.items() if word[0] == "5"),
            "not_once": sum(
                effects[number] != 1 for number in self.done | set(effects)
            ),
            "milliseconds": {
                kind: _percentiles(times) for kind, times in self.seconds.items()
            },
            "most_sessions": max(self.sessions),
            "open_transactions": _open_transactions(),
            "memory_mb": self._memory(seconds),
        }

    def _memory(self, seconds: float) -> dict[str, Any]:
        """Of each process, in the first and in the last minute."""
        window = int(min(60, max(1, seconds / 5)))
        first, last = self.memory[:window], self.memory[-window:]
        return {
            str(pid): [
                round(statistics.median(sample[pid] for sample in samples) / 2**20, 1)
                for samples in (first, last)
            ]
            for pid in first[0]
        }


def _workers() -> list[psutil.Process]:
    return [
        worker
        for server in psutil.Process().children()
        if "gunicorn" in server.cmdline()
        for worker in server.children()
    ]


def _amounts() -> Iterable[int]:
    from tests.testapp.models import Order

    return Order.objects.values_list("amount", flat=True)


def _number(sql: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} WHERE datname = current_database()")
        number: int = cursor.fetchone()[0]
        return number


def _count(condition: str) -> int:
    counted = f"SELECT count(*) FILTER (WHERE {condition})"
    return _number(f"{counted} FROM pg_stat_activity")


def _open_transactions() -> int:
    """Those that don't end; a replay is counted after its answer is sent."""
    for _ in range(50):
        left = _count("xact_start IS NOT NULL AND pid <> pg_backend_pid()")
        if not left:
            break
        time.sleep(0.1)
    return left


def _percentiles(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {
        f"p{percent}": round(ordered[len(ordered) * percent // 100] * 1000, 1)
        for percent in (50, 99)
    }


def _parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=5, metavar="N")
    parser.add_argument("--seed", type=int, default=1, metavar="N")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
