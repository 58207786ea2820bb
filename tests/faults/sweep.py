"""A kill before and after every point of one way in, each followed by the same request.

The points are recorded from a run in peace. Each of them gets an operation of its own,
whose process dies there.
"""

from __future__ import annotations

import http.client
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.concurrency.answers import Answer
from tests.concurrency.storm import TIMEOUT, until
from tests.faults.clients import USER, post, request
from tests.faults.plans import WORKER, Fault
from tests.faults.stage import Stage

__all__ = ["Case", "Sweep", "done_once", "where"]

AT_ONCE = 6
PATIENCE_SECONDS = 60.0

_runs = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Before or after a statement, a commit or an outside call."""

    where: str
    at: int
    when: str
    name: str


@dataclass(slots=True, kw_only=True)
class Case:
    """One operation, and the point at which its first process dies."""

    index: int
    point: Point
    run: int = field(default_factory=_runs.__next__)
    answers: list[Answer] = field(default_factory=list)
    """To the retry and to its repeat."""
    orders: int = 0
    charges: int = 0
    asked: int = 0
    """How often the provider was asked to charge."""

    def __str__(self) -> str:
        return f"{self.index} {self.point.when} {self.point.name}"

    @property
    def words(self) -> list[str]:
        return [answer.word for answer in self.answers]


class Sweep:
    """All kills of one way in.

    That of a worker is an event that is stored already, and is now handled.
    """

    def __init__(self, stage: Stage, entry: str) -> None:
        self.stage = stage
        self.entry = entry
        self.is_worker = entry == WORKER
        self.cases: list[Case] = []

    def run(self) -> list[Case]:
        self.cases = [
            Case(index=index, point=point)
            for index, point in enumerate(_points(self._recorded()))
        ]
        if self.is_worker:
            # One event after the other, since a worker takes whichever is due.
            for case in self.cases:
                self._begin(case)
                self._ask_again(case)
        else:
            self._each(self._begin)
            self._each(self._ask_again)
        self._each(self._ask_again)
        self._handle_the_inbox()
        self._count()
        return self.cases

    def _recorded(self) -> list[tuple[str, str]]:
        fault = Fault(run=next(_runs), kind=self.entry, act="record")
        self._deliver(fault.run)
        assert self._ask(fault.run, fault) is not None
        until(lambda: self.entry in self.stage.watcher.recorded())
        return self.stage.watcher.recorded()[self.entry]

    def _begin(self, case: Case) -> None:
        """Let the operation be begun by a process that dies at the point."""
        self._deliver(case.run)
        point = case.point
        fault = Fault(
            run=case.run,
            kind="kill",
            act="kill",
            where=point.where,
            at=point.at,
            when=point.when,
        )
        answer = self._ask(case.run, fault)
        assert answer is None, f"{self.entry} {case} was survived: {answer}"

    def _ask_again(self, case: Case) -> None:
        if self.is_worker:
            self._make_due()
        answer = self._ask(case.run)
        assert answer is not None, f"{self.entry} {case} is not answered"
        case.answers.append(answer)

    def _deliver(self, run: int) -> None:
        if self.is_worker:
            answer = self._post("inbox", *request("inbox", run, operation=run, user=0))
            assert answer is not None

    def _ask(self, run: int, fault: Fault | None = None) -> Answer | None:
        more = {} if fault is None else {"X-Fault": json.dumps(fault.values())}
        if self.is_worker:
            return self._post("work", b"", more)
        body, headers = request(self.entry, run, operation=run, user=USER)
        return self._post(self.entry, body, headers | more)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> Answer | None:
        try:
            return post(self.stage.url_of(path), path, body, headers, PATIENCE_SECONDS)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException):
            return None  # died before it answered

    def _each(self, act: Callable[[Case], None]) -> None:
        with ThreadPoolExecutor(1 if self.is_worker else AT_ONCE) as threads:
            for future in [threads.submit(act, case) for case in self.cases]:
                future.result(PATIENCE_SECONDS + TIMEOUT)

    def _make_due(self) -> None:
        """Also what a dead process had begun; its session may still hold the row."""
        self.stage.query(
            "UPDATE django_idempotency_processedevent"
            " SET next_attempt_at = clock_timestamp()"
            " WHERE next_attempt_at IS NOT NULL"
        )

    def _handle_the_inbox(self) -> None:
        while True:
            answer = self._post("work", b"", {})
            assert answer is not None
            if answer.body == b"NOTHING_DUE":
                return

    def _count(self) -> None:
        rows = self.stage.query("SELECT amount FROM testapp_order")
        orders = Counter(operation for (operation,) in rows)
        listing = self.stage.provider_listing()
        charges = Counter(charge.operation for charge in listing.charges)
        asked = Counter(listing.asked)
        for case in self.cases:
            case.orders = orders[case.run]
            case.charges = charges[case.run]
            case.asked = asked[case.run]


def _points(passed: Iterable[tuple[str, str]]) -> Iterator[Point]:
    seen: Counter[str] = Counter()
    for where_, detail in passed:
        seen[where_] += 1
        for when in ("before", "after"):
            name = detail.partition(" ")[0]
            yield Point(where=where_, at=seen[where_], when=when, name=name)


def where(cases: list[Case], condition: Callable[[Case], bool]) -> list[str]:
    """The points of the cases for which this holds."""
    return [str(case) for case in cases if condition(case)]


def done_once(case: Case) -> bool:
    return (case.orders, case.charges) == (1, 1)
