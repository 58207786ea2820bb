"""A campaign: batches of runs, until there were enough of each kind of fault."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any

from tests.faults.batches import CLIENTS, QUIET_SECONDS, checked, played
from tests.faults.checking import Violation
from tests.faults.clients import History, record
from tests.faults.plans import ENTRIES, KINDS, PURGE, WORKER, Fault, Points, plans
from tests.faults.stage import Stage

__all__ = ["run"]

RECORDED = 9_000_000
"""Added to the numbers of the runs that only count points."""


def run(
    stage: Stage,
    *,
    runs: int,
    seed: int,
    first: int = 1,
    kinds: Sequence[str] = tuple(KINDS),
    until_violation: bool = False,
) -> dict[str, Any]:
    """Return what was done, and each promise that was broken, with its history.

    `first` is the number of the seed's run to begin with; `kinds` are those of the
    faults. There are more runs, up to twice as many, if a kind has struck too rarely: a
    fault finds nothing to strike when a copy has been quicker.
    """
    campaign = _Campaign(stage, seed, kinds, points=_points(stage))
    planned = islice(plans(seed, campaign.points, kinds=kinds), first - 1, None)
    size = CLIENTS if until_violation else 4 * CLIENTS
    minimum = runs // len(kinds) // 2
    while campaign.runs < runs or (
        campaign.too_rare(minimum) and campaign.runs < 2 * runs
    ):
        left = runs - campaign.runs
        batch = list(islice(planned, min(size, left) if left > 0 else CLIENTS))
        histories, seen = played(stage, batch, until_violation=until_violation)
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
        found = [asdict(each) for each in seen] + checked(self.stage, histories)
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
