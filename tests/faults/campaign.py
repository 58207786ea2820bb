"""A campaign: batches of runs, until there were enough of each kind of fault.

In each clients are at work, then it is quiet, and then the history is checked.
"""

import contextlib
import http.client
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from tests.faults import checking, counts
from tests.faults.checking import Truth, Violation
from tests.faults.clients import (
    OTHER,
    USER,
    History,
    Moment,
    ask_again,
    key_of,
    play,
    post,
    record,
)
from tests.faults.databases import EVENTS, RECORDS
from tests.faults.plans import (
    ENTRIES,
    OTHER_USER,
    PURGE,
    WORKER,
    Fault,
    Plan,
    Points,
    plans,
)
from tests.faults.stage import Stage
from tests.support.client import Answer

CLIENTS = 12
"""How many runs are in progress at once; each has its copies as well."""

QUIET_SECONDS = 60.0
"""For what is still to be handled when the clients of a batch have ended."""

LOOKS = 5
"""How often a person looks at one operation that is held."""

TRIES = 50
"""How often a person tries to say what was found: more often than there are threads."""

MOST = 4
"""How many times as many runs there are at most, for kinds that have struck too rarely."""

RECORDED = 9_000_000
"""Added to the numbers of the runs that only count points."""


def run(
    stage: Stage,
    *,
    runs: int,
    seed: int,
    first: int = 1,
    kinds: Sequence[str],
    until_violation: bool = False,
) -> dict[str, Any]:
    """Return what was done, and each promise that was broken, with its history.

    `first` is the number of the seed's run to begin with; `kinds` are those of the
    faults. There are more runs, up to `MOST` times as many, if a kind has struck too
    rarely: a fault finds nothing to strike when a copy has been quicker.
    """
    campaign = _Campaign(stage, seed, kinds, points=_points(stage))
    if not stage.counts:
        return _run(campaign, runs, first, until_violation=until_violation)
    with counts.hindered(stage.database) as hindered:
        result = _run(campaign, runs, first, until_violation=until_violation)
    return result | {"counts": campaign.counted(hindered)}


def _run(
    campaign: "_Campaign", runs: int, first: int, *, until_violation: bool
) -> dict[str, Any]:
    stage, kinds = campaign.stage, campaign.kinds
    every = plans(campaign.seed, campaign.points, kinds=kinds)
    planned = islice(every, first - 1, None)
    size = CLIENTS if until_violation else 4 * CLIENTS
    minimum = runs // len(kinds) // 2
    while campaign.runs < runs or (
        campaign.too_rare(minimum) and campaign.runs < MOST * runs
    ):
        left = runs - campaign.runs
        batch = list(islice(planned, min(size, left) if left > 0 else CLIENTS))
        histories, seen = _played(stage, batch, until_violation=until_violation)
        campaign.add(histories, seen)
        if campaign.violations and until_violation:
            break
    return campaign.told(minimum)


@dataclass
class _Campaign:
    stage: Stage
    seed: int
    kinds: Sequence[str]
    points: Points
    started: float = field(default_factory=time.monotonic)
    runs: int = 0
    settled: int = 0
    longest_wait: float = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    entries: dict[int, str] = field(default_factory=dict)
    """By the number of the run."""

    def add(self, histories: Sequence[History], seen: Sequence[Violation]) -> None:
        self.runs += len(histories)
        for history in histories:
            self.entries[history.plan.run] = history.plan.entry
            self.settled += len(history.operations_held())
            self.longest_wait = max(self.longest_wait, history.longest_wait)
        found = [asdict(each) for each in seen] + _checked(self.stage, histories)
        for each in found:
            self.violations.append({"seed": self.seed, **each})
            sys.stderr.write(json.dumps(self.violations[-1]) + "\n")
        sys.stderr.write(
            f"seed {self.seed}: {self.runs} runs, the last is {max(self.entries)},"
            f" {len(self.violations)} violations, {self._seconds:.0f} s\n"
        )

    def too_rare(self, minimum: int) -> list[str]:
        struck = self.stage.watcher.faults()
        return [kind for kind in self.kinds if struck.get(kind, 0) < minimum]

    def told(self, minimum: int) -> dict[str, Any]:
        watcher = self.stage.watcher
        struck = Counter(run for run, _ in watcher.struck)
        by_entry = Counter(self.entries[run] for run, _ in watcher.struck)
        return {
            "runs": self.runs,
            "seed": self.seed,
            "seconds": round(self._seconds, 1),
            "longest_wait": round(self.longest_wait, 1),
            "points": self.points,
            "faults": watcher.faults(),
            "struck_by_entry": dict(sorted(by_entry.items())),
            "struck_twice": sum(count > 1 for count in struck.values()),
            "settled": self.settled,
            "purges": len(watcher.told("purge left")),
            "too_rare": self.too_rare(minimum),
            "violations": self.violations,
        }

    def counted(self, hindered: Counter[str]) -> dict[str, Any]:
        """Compare what is written with what the processes have said that they count.

        It can be less: what was counted since the last write is lost by a kill, and when
        the table is away. It can't be more.
        """
        written = counts.written(self.stage.database)
        time.sleep(1)  # for the watcher to read the rest
        told = Counter(self.stage.watcher.told("counted"))
        for outcome, number in written.items():
            if number > told[outcome]:
                detail = (
                    f"{outcome}: {number} are written, and there were {told[outcome]}"
                )
                rule = "counted too often"
                violation = {"seed": self.seed, "rule": rule, "detail": detail}
                self.violations.append(violation)
        return {"told": dict(told), "written": written, "hindered": dict(hindered)}

    @property
    def _seconds(self) -> float:
        return time.monotonic() - self.started


def _points(stage: Stage) -> Points:
    """Let each way in be gone once in peace, and its points be counted."""
    for number, entry in enumerate(ENTRIES, RECORDED):
        record(stage, entry, Fault(run=number, kind=entry, act="record"))
    end = time.monotonic() + QUIET_SECONDS
    number = RECORDED + len(ENTRIES)
    while not {*ENTRIES, WORKER, PURGE} <= {*(counted := _counted(stage))}:
        if time.monotonic() > end:
            raise RuntimeError(f"Not everything has come to its end: {counted}")
        # More than one, since the first may be handled by the other worker.
        fault = Fault(run=number, kind=WORKER, act="record", target=WORKER)
        record(stage, "inbox", fault)
        number += 1
        time.sleep(0.2)
    return counted


def _counted(stage: Stage) -> Points:
    return {
        name: Counter(where for where, _ in passed)
        for name, passed in stage.watcher.recorded().items()
    }


def _played(
    stage: Stage, batch: Sequence[Plan], *, until_violation: bool
) -> tuple[list[History], list[Violation]]:
    """Return what clients have seen, and what was to be seen in the database meanwhile."""
    with (
        ThreadPoolExecutor(CLIENTS) as clients,
        _observed(stage, until_violation=until_violation) as seen,
    ):
        histories = list(clients.map(lambda plan: play(stage, plan), batch))
        _wait_for_the_rest(stage, histories)
        for history in histories:
            for operation in history.operations_held():
                _settle(stage, history, operation)
        _wait_for_the_rest(stage, histories)
    return histories, list(seen)


def _checked(stage: Stage, histories: Sequence[History]) -> list[dict[str, Any]]:
    truth = Truth(stage)
    found = [
        _told(stage, history, violation)
        for history in histories
        for violation in checking.violations_of(history, truth)
    ]
    return found + [asdict(each) for each in checking.leftovers(stage)]


def _settle(stage: Stage, history: History, operation: int) -> None:
    """Let a person look at what is held, and the client ask again.

    The answer to that is lost once, so that it is held again; or it is because the
    machine is so slow that the call is given up. The person's page is still open, and
    is sent once more.
    """
    who = "client, after a person has looked"
    forms: list[tuple[str, bytes]] = []
    for number in range(LOOKS):
        # Nobody is needed where a slower process has come to the end after all.
        for record_id in _held(stage, history, operation):
            for form in forms:
                _asked(stage, history, "settle", operation, *form)
            seen = _asked(stage, history, "look", operation, record_id, b"")
            if seen is not None:
                forms.append((record_id, seen.body))
                for _ in range(2):
                    _asked(stage, history, "settle", operation, record_id, seen.body)
        fault = None if number else _lost_answer(history)
        ask_again(stage, history, who, operation, fault=fault)
        if history.is_answered(operation) or stage.has_failed.is_set():
            return
    history.unanswered.append((who, operation))


def _lost_answer(history: History) -> Fault:
    return Fault(
        run=history.plan.run,
        kind="provider-loses-answer",
        act="provider",
        number=len(history.plan.faults) + 1,
        provider="lose",
    )


def _asked(
    stage: Stage, history: History, entry: str, operation: int, record: str, body: bytes
) -> Answer | None:
    """Do what a person does. A thread of a worker may find its connection dead.

    It gets another one afterwards, but that is of no use if each try meets another
    thread.
    """
    headers = {"X-Operation": str(operation), "X-Record": record}
    for _ in range(TRIES):
        began = time.time()
        answer = None
        try:
            answer = post(stage.shop_url, entry, body, headers, QUIET_SECONDS)
            got = f"{entry}: {answer.status}"
        except (OSError, http.client.HTTPException) as error:
            got = type(error).__name__
        history.moments.append(
            Moment(time=began, seconds=time.time() - began, who="person", got=got)
        )
        if answer is not None and answer.status in (200, 409):
            return answer
    return None


def _held(stage: Stage, history: History, operation: int) -> list[str]:
    user = OTHER if operation > OTHER_USER else USER
    rows = stage.query(
        f"SELECT id FROM {RECORDS}"  # noqa: S608
        " WHERE state = 'held' AND \"key\" = %s AND scope LIKE %s",
        key_of(history.plan.entry, history.plan.run),
        f"%User:{user}|%",
    )
    return [str(record) for (record,) in rows]


@contextlib.contextmanager
def _observed(stage: Stage, *, until_violation: bool) -> Iterator[set[Violation]]:
    """Look at the database all the time.

    What a killed worker had begun is made due in moments, instead of in seconds.
    """
    seen: set[Violation] = set()
    is_over = threading.Event()

    def observe() -> None:
        while not is_over.wait(0.3):
            stage.database.make_due()
            seen.update(checking.never_to_be_seen(stage))
            if seen and until_violation:
                stage.has_failed.set()

    with ThreadPoolExecutor(1) as thread:
        observing = thread.submit(observe)
        try:
            yield seen
        finally:
            is_over.set()
    observing.result()


def _wait_for_the_rest(stage: Stage, histories: Sequence[History]) -> None:
    """Return when no process is stopped, nothing is open and no event waits."""
    events = {f"evt_{number}" for number in checking.acknowledged_events(histories)}
    end = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < end:
        is_purged = stage.watcher.told("purge left")[-1] == 0
        if stage.watcher.is_quiet and is_purged and _is_quiet(stage, events):
            return
        # MariaDB makes its list of transactions anew if nobody reads it for so long.
        time.sleep(0.2)


def _is_quiet(stage: Stage, events: set[str]) -> bool:
    database = stage.database
    waiting = stage.query(
        f"SELECT event_id FROM {EVENTS} WHERE next_attempt_at IS NOT NULL"  # noqa: S608
    )
    leased = stage.query(
        f"SELECT 1 FROM {RECORDS} WHERE lease_expires_at > {database.now}"  # noqa: S608
    )
    return not (database.open() or leased or events & {event for (event,) in waiting})


def _told(stage: Stage, history: History, violation: Violation) -> dict[str, Any]:
    struck = stage.watcher.struck_between(history.started, history.ended)
    return {
        "run": history.plan.run,
        **asdict(violation),
        "plan": asdict(history.plan),
        "history": history.told(),
        "struck_meanwhile": struck,
    }
