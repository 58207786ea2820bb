"""Looking on while something is played: each answer as it comes, and the books."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace

import httpx
import psycopg

from example_project.theatre.demo.browsers import Answer
from example_project.theatre.demo.ledger import Ledger
from example_project.theatre.demo.places import Stage
from example_project.theatre.demo.scenarios import Play

from .runs import Event, Tell

__all__ = ["Answers", "live_books"]

#: How often the books are asked.
GLANCE_SECONDS = 0.2


class Answers:
    """Tells of each request that is sent, and of its answer. Called by many threads."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._numbers = itertools.count()
        #: The different answers so far, in the order in which they came.
        self._kinds: dict[Answer, int] = {}
        self._lock = threading.Lock()

    def watch(self, path: str) -> Callable[[Answer | None], None]:
        number = next(self._numbers)
        self._tell({"kind": "sent", "number": number, "what": _what(path)})

        def answered(answer: Answer | None) -> None:
            face = {"shape": "lost"} if answer is None else self._face(answer)
            self._tell({"kind": "answered", "number": number, **face})

        return answered

    def _face(self, answer: Answer) -> Event:
        """How the answer looks: equal ones alike, different ones different."""
        with self._lock:
            look = self._kinds.setdefault(answer, len(self._kinds))
        return {
            "shape": _shape(answer.status),
            "look": look,
            "status": answer.status,
            **_named_in(answer),
        }


@contextmanager
def live_books(
    stage: Stage, play: Play, amount_minor: int, tell: Tell
) -> Iterator[None]:
    """Tell what the books say whenever that has changed."""
    is_over = threading.Event()

    def look_on() -> None:
        # What ails the servers is found out by who plays.
        with (
            suppress(httpx.HTTPError, psycopg.Error),
            Ledger(stage, amount_minor=amount_minor) as ledger,
        ):
            ours, seen = replace(play, ledger=ledger), None
            while not is_over.wait(GLANCE_SECONDS):
                now = {**asdict(ledger.now()), "handled": ours.handled()}
                if now != seen:
                    tell({"kind": "books", **now})
                seen = now

    thread = threading.Thread(target=look_on)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _what(path: str) -> str:
    if "webhooks" in path:
        return "report"
    return "refund" if "refund" in path else "payment"


def _shape(status: int) -> str:
    if status < 400:
        return "good"
    return "refused" if status < 500 else "failed"


def _named_in(answer: Answer) -> Event:
    """The order or refund that was made, if the answer names one."""
    with suppress(ValueError):
        body = json.loads(answer.body)
        if isinstance(body, dict) and answer.status == 201:
            if "refund" in body:
                return {"named": "refund", "id": body["refund"]}
            return {"named": "order", "id": body.get("order", body.get("id"))}
    return {}
