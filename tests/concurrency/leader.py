"""A first request that stands in its view, while a test sees to its copies."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tests.support.client import Answer, new_key, post
from tests.support.threads import (
    AT_A_CLAIM,
    AT_THE_GATE,
    TIMEOUT,
    Gate,
    crew,
    gate_closed,
    start,
    until_waiting,
)


@dataclass(frozen=True, slots=True)
class Leader:
    path: str
    key: str
    gate: Gate
    threads: ThreadPoolExecutor
    answer: Future[Answer]

    def copies(self, count: int) -> list[Future[Answer]]:
        """Send copies in threads of their own."""
        return [start(self.threads, post, self.path, self.key) for _ in range(count)]

    def copies_that_wait(self, count: int) -> list[Future[Answer]]:
        """Send copies, and return when all of them wait for the leader."""
        copies = self.copies(count)
        until_waiting(count, AT_A_CLAIM)
        return copies

    def go_on(self) -> Answer:
        """Let it leave its view; return its answer."""
        self.gate.open()
        return self.answer.result(TIMEOUT)


def storm(
    path: str, key: str, *, copies: int, held: int = 0, at: tuple[str, ...] = AT_A_CLAIM
) -> list[Answer]:
    """Send copies that meet the first one while it is in the view.

    `held` of them are waited for: all but the first if nothing is said.
    """
    with gate_closed() as gate, crew() as threads:
        futures = [start(threads, post, path, key) for _ in range(copies)]
        until_waiting(held or copies - 1, at)
        gate.open()
        return [future.result(TIMEOUT) for future in futures]


@contextmanager
def leading(path: str, key: str | None = None) -> Iterator[Leader]:
    """A request to `path` that is in its view."""
    key = key or new_key()
    with gate_closed() as gate, crew() as threads:
        answer = start(threads, post, path, key)
        until_waiting(1, AT_THE_GATE)
        yield Leader(path, key, gate, threads, answer)
