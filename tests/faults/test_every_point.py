"""kill -9 before and after every statement, COMMIT and outside call of every way in.

The points are recorded from a run in peace. Each of them gets an operation of its own,
whose process dies there, and which is then asked for again.
"""

import http.client
import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field

import pytest

from tests.faults.clients import USER, post, request
from tests.faults.plans import ASGI, ENTRIES, WEBHOOKS, WORKER, Fault
from tests.faults.stage import Stage, set_up
from tests.support.client import Answer
from tests.support.threads import TIMEOUT, until

# They bring their own PostgreSQL.
pytestmark = pytest.mark.timeout(300)

NOT_REPEATED = {"looked-up", "long-view", "held"}
"""What a retry does about their calls is not to call."""

KEYED = [entry for entry in ENTRIES if entry not in WEBHOOKS | ASGI | NOT_REPEATED]
HANDLING = ["inline", WORKER]

AT_ONCE = 6
PATIENCE_SECONDS = 60.0
NEVER_SECONDS = 3600.0
"""A process that is stopped goes on when it is told."""

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
    late: str = ""
    """What the first client is told in the end, where its process was only stopped."""

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
        self._record()
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

    def run_with_stops(self) -> list[Case]:
        """Stop each process for longer than its lease instead, and let it go on then."""
        self._record()
        with ThreadPoolExecutor(len(self.cases)) as threads:
            late = [
                threads.submit(self._ask, case.run, self._fault(case, "stop"))
                for case in self.cases
            ]
            try:
                until(lambda: len(self._stopped()) == len(self.cases))
                until(lambda: not self._live_leases())
                self._each(self._ask_again)
            finally:
                for process in self._stopped():
                    os.kill(process, signal.SIGCONT)
            for case, future in zip(self.cases, late, strict=True):
                answer = future.result(PATIENCE_SECONDS)
                case.late = "died" if answer is None else answer.word
        self._each(self._ask_again)
        self._count()
        return self.cases

    def _stopped(self) -> list[int]:
        runs = {case.run for case in self.cases}
        lines = list(self.stage.watcher.lines)
        return [
            line["pid"]
            for line in lines
            if line.get("act") == "stop" and line["run"] in runs
        ]

    def _live_leases(self) -> int:
        ((count,),) = self.stage.query(
            "SELECT count(*) FROM django_idempotency_idempotencyrecord"
            " WHERE lease_expires_at > clock_timestamp()"
        )
        return int(count)

    def _record(self) -> None:
        """Make a case for each point that is passed in peace."""
        points = enumerate(_points(self._recorded()))
        self.cases = [Case(index=index, point=point) for index, point in points]

    def _recorded(self) -> list[tuple[str, str]]:
        fault = Fault(run=next(_runs), kind=self.entry, act="record")
        self._deliver(fault.run)
        assert self._ask(fault.run, fault) is not None
        until(lambda: self.entry in self.stage.watcher.recorded())
        return self.stage.watcher.recorded()[self.entry]

    def _begin(self, case: Case) -> None:
        """Let the operation be begun by a process that dies at the point."""
        self._deliver(case.run)
        answer = self._ask(case.run, self._fault(case, "kill"))
        assert answer is None, f"{self.entry} {case} was survived: {answer}"

    def _fault(self, case: Case, act: str) -> Fault:
        point = case.point
        return Fault(
            run=case.run,
            kind=act,
            act=act,
            where=point.where,
            at=point.at,
            when=point.when,
            seconds=NEVER_SECONDS,
        )

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
        more = {} if fault is None else {"X-Fault": json.dumps(asdict(fault))}
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
        if where_ == "write":
            continue  # around a statement
        seen[where_] += 1
        for when in ("before", "after"):
            name = detail.partition(" ")[0]
            yield Point(where=where_, at=seen[where_], when=when, name=name)


def where(cases: list[Case], condition: Callable[[Case], bool]) -> list[str]:
    """The points of the cases for which this holds."""
    return [str(case) for case in cases if condition(case)]


def done_once(case: Case) -> bool:
    return (case.orders, case.charges) == (1, 1)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with set_up(one_by_one=True) as stage:
        yield stage


def before_its_end_is_committed(cases: list[Case]) -> list[str]:
    """From the outside call to the COMMIT behind it: whoever looks doesn't see it."""
    call, end = places_of(cases, ("after", "charge"), ("after", "COMMIT"))
    return [str(case) for case in cases[call:end]]


def places_of(cases: list[Case], *points: tuple[str, str]) -> list[int]:
    """Where they are, each behind the one before."""
    names = [(case.point.when, case.point.name) for case in cases]
    places = [0]
    for point in points:
        places.append(names.index(point, places[-1]))
    return places[1:]


@pytest.mark.parametrize("entry", [*KEYED, *HANDLING])
def test_effect_is_there_once_wherever_its_process_is_killed(
    stage: Stage, entry: str
) -> None:
    """FR-013, FR-027, FR-029."""
    cases = Sweep(stage, entry).run()

    assert len(cases) >= 12
    assert where(cases, lambda case: not done_once(case)) == []
    # By a provider that honours the derived key, and never where the end is known.
    assert where(cases, lambda case: case.asked > 1) == (
        before_its_end_is_committed(cases)
    )
    assert where(cases, lambda case: case.asked > 2) == []
    require_one_final_answer(entry, cases)


def require_one_final_answer(entry: str, cases: list[Case]) -> None:
    *others, last = cases
    assert (last.point.when, last.point.name) == ("after", "COMMIT")
    bodies = [{answer.body for answer in case.answers} for case in cases]
    if entry == WORKER:
        assert bodies == [{b"PROCESSED", b"NOTHING_DUE"}] * len(others) + [
            {b"NOTHING_DUE"}
        ]
        return
    assert [len(each) for each in bodies] == [1] * len(cases)
    if entry in WEBHOOKS:
        first = repeated = "200"
    elif "task" in entry:
        first = repeated = "201"
    else:
        first, repeated = "201", "201 replayed"
    assert where(others, lambda case: case.words != [first, repeated]) == []
    assert last.words == [repeated, repeated]


def test_stored_delivery_is_handled_once_wherever_its_process_is_killed(
    stage: Stage,
) -> None:
    cases = Sweep(stage, "inbox").run()

    assert len(cases) >= 2
    assert where(cases, lambda case: not done_once(case)) == []
    assert where(cases, lambda case: case.words != ["200", "200"]) == []


def test_call_that_is_looked_up_is_made_once_wherever_it_is_killed(
    stage: Stage,
) -> None:
    cases = Sweep(stage, "looked-up").run()

    assert where(cases, lambda case: not done_once(case)) == []
    assert where(cases, lambda case: case.asked > 1) == []


def test_call_that_holds_is_made_at_most_once_wherever_it_is_killed(
    stage: Stage,
) -> None:
    """By a provider that knows no keys: then nobody can say whether it happened."""
    cases = Sweep(stage, "held").run()
    begun, _, end = places_of(
        cases, ("before", "charge"), ("after", "charge"), ("after", "COMMIT")
    )
    unknown = range(begun - 1, end)  # from behind the COMMIT before it

    assert where(cases, lambda case: case.charges > 1) == []
    for case in cases[:-1]:
        is_unknown = case.index in unknown
        words = ["409 outcome-unknown"] * 2 if is_unknown else ["201", "201 replayed"]
        assert (str(case), case.words) == (str(case), words)
        assert case.orders == (not is_unknown)


def test_effect_is_there_once_wherever_its_process_is_stopped_for_too_long(
    stage: Stage,
) -> None:
    """FR-014: slow, but living; at most one of the two commits."""
    cases = Sweep(stage, "impatient-leased").run_with_stops()
    told = Counter((case.late, case.words[0]) for case in cases)
    refused = ("409 in-flight", "409 in-flight")

    assert where(cases, lambda case: not done_once(case)) == []
    for case in cases:
        is_refused = (case.late, case.words[0]) == refused
        assert (str(case), case.words[1]) == (
            str(case),
            "201" if is_refused else "201 replayed",
        )
    assert set(told) == {
        refused,  # stopped in the transaction before a call, which it didn't make then
        ("409 in-flight", "201"),  # the other one took over
        ("201 replayed", "201"),  # stopped before it had claimed
        ("201", "409 in-flight"),  # stopped in a transaction, which the other waits for
        ("201", "201 replayed"),  # stopped behind the end
    }
    assert told["409 in-flight", "201"] >= 10


def test_unprotected_view_does_it_again(stage: Stage) -> None:
    """The negative control: these kills, and these retries, do harm."""
    cases = Sweep(stage, "unprotected").run()

    assert where(cases, lambda case: case.orders > 1)
    assert where(cases, lambda case: case.charges > 1)
