"""What is to happen in each run, drawn from the seed alone."""

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tests.faults.conditions import PATIENCE_SECONDS, deadline_seconds

ENTRIES = (
    "view",
    "drf",
    "leased",
    "async-leased",
    "asgi-leased",
    "looked-up",
    "long-view",
    "held",
    "inline",
    "inbox",
    "tenant",
    "task",
    "leased-task",
)
"""The ways into the shop."""

WEBHOOKS = frozenset({"inline", "inbox", "tenant"})
STORED = frozenset({"inbox", "tenant"})
"""Deliveries that are only stored, in one statement, for a worker to handle."""
ATOMIC = frozenset({"view", "drf", "inline", "task"})
"""Whose work is done in the transaction of the claim, in the request."""
ASGI = frozenset({"asgi-leased"})
CALM = frozenset({"long-view"})
"""What is served by processes that nobody stops: see Note [Who is not stopped]."""
HELD = frozenset({"held"})
"""Where a person has to look when nobody knows whether the call happened."""

REQUEST, WORKER, PURGE = "request", "worker", "purge"
"""Whom a fault is for: the server of a request, or a process in the background."""

OTHER_USER, FORGED = 1_000_000, 2_000_000
"""Added to a run's number: the operation of somebody else, and one that must not be."""

LONG_STOP, SHORT_STOP = 2.5, 0.3
"""Seconds for which a process is stopped: above, or below, all leases and time-outs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What one process is to suffer, once."""

    run: int
    kind: str
    act: str
    """``kill``, ``stop``, ``drop``, ``cancel``, ``restart``, ``crash``, ``cut``,
    ``provider``, ``leave``, ``alter``, ``time-out``, ``outrun``, or ``record`` only."""
    number: int = 1
    """Of the run's faults, from 1."""
    target: str = REQUEST
    where: str = ""
    """At a ``statement``, a ``commit``, a ``call`` or the work's last ``write``."""
    at: int = 0
    """The how manieth of those, from 1."""
    when: str = "before"
    seconds: float = 0
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what, and at which points."""

    act: str
    where: tuple[str, ...] = ()
    when: tuple[str, ...] = ("before", "after")
    provider: tuple[str, ...] = ()
    target: str = REQUEST


KINDS = {
    "kill-at-statement": Kind("kill", ("statement",)),
    "kill-at-call": Kind("kill", ("call",)),
    "kill-at-commit": Kind("kill", ("commit",)),
    "stop-at-statement": Kind("stop", ("statement",)),
    "stop-at-call": Kind("stop", ("call",)),
    "stop-at-commit": Kind("stop", ("commit",)),
    "drop-at-statement": Kind("drop", ("statement",)),
    "drop-before-commit": Kind("drop", ("commit",), ("before",)),
    "drop-after-commit": Kind("drop", ("commit",), ("after",)),
    "cancel-at-statement": Kind("cancel", ("statement",), ("before",)),
    "database-restart": Kind("restart", ("statement", "commit", "call")),
    "database-killed": Kind("crash", ("statement", "commit", "call")),
    "node-cut-off": Kind("cut", ("statement", "commit", "call")),
    "table-altered": Kind("alter", ("statement", "commit", "call")),
    # Errors that roll back more than the statement, for the work goes on.
    "timeout-swallowed": Kind("time-out", ("write",)),
    "change-swallowed": Kind("outrun", ("write",)),
    "purge-killed": Kind("kill", ("statement", "commit"), target=PURGE),
    "provider-slow": Kind(
        "provider", provider=("slow", "slow-after", "very-slow", "very-slow-after")
    ),
    "provider-loses-answer": Kind("provider", provider=("lose",)),
    "provider-fails": Kind("provider", provider=("fail", "fail-after")),
    # The client goes away during the call.
    "client-leaves": Kind("leave", provider=("slow", "slow-after")),
}


def may_strike(kind: str, entry: str) -> bool:
    """Whether this way in is hurt by such faults.

    Note [Who is not stopped]
    A view that is longer than its lease, and looks its call up, is at a provider that
    charges each time that it is asked. A process that stands still between its last look
    at the lease and its call charges too late to be found, as the documentation says; so
    does a provider that is slower than the lease.
    """
    if entry in CALM:
        return KINDS[kind].act not in ("stop", "leave") and kind != "provider-slow"
    return kind != "client-leaves" or entry in ASGI


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run: an operation, its faults, and what its clients do."""

    run: int
    entry: str
    faults: tuple[Fault, ...]
    """Each strikes when those before it have."""
    copies: tuple[float, ...]
    """After how many seconds copies of the first request are sent."""
    repeats: int
    """How often it is sent again after the answer."""
    asks_other_user: bool
    is_forged: bool
    """Whether a delivery with a wrong signature is sent as well."""
    patience: float
    """How long the client waits for one answer."""

    @property
    def deadline_seconds(self) -> float:
        return deadline_seconds(self.patience, is_long=self.entry in CALM)


Points = Mapping[str, Mapping[str, int]]
"""By entry, worker and purge: how many statements, commits and calls there are, counted beforehand."""


@dataclass
class _Deck:
    """Deals in shuffled rounds, so that nothing is rare."""

    cards: tuple[str, ...]
    random: random.Random
    left: list[str] = field(default_factory=list)

    def deal(self) -> str:
        if not self.left:
            self.left = list(self.cards)
            self.random.shuffle(self.left)
        return self.left.pop()


def plans(seed: int, points: Points, *, kinds: Iterable[str] = KINDS) -> Iterator[Plan]:
    """Yield plans without end; kinds of faults come equally often, and so do entries."""
    drawn = random.Random(seed)  # noqa: S311 - no secret
    deck, more = _Deck(tuple(kinds), drawn), _Deck(tuple(kinds), drawn)
    entries = {
        kind: _Deck(tuple(each for each in ENTRIES if may_strike(kind, each)), drawn)
        for kind in KINDS
    }
    for run in itertools.count(1):
        kind = deck.deal()
        entry = entries[kind].deal()
        others = [more.deal() for _ in range(drawn.choice((0, 1)))]
        faults = tuple(
            _fault(drawn, run, number, each, entry, points)
            for number, each in enumerate((kind, *others), 1)
            if may_strike(each, entry)
        )
        yield _plan(drawn, run, entry, faults)


def _plan(
    drawn: random.Random, run: int, entry: str, faults: tuple[Fault, ...]
) -> Plan:
    is_webhook = entry in WEBHOOKS
    return Plan(
        run=run,
        entry=entry,
        faults=faults,
        copies=tuple(
            drawn.choice((0.0, drawn.uniform(0, 0.1), drawn.uniform(0, 1.5)))
            for _ in range(drawn.choice((0, 1, 1, 2, 4)))
        ),
        repeats=drawn.choice((0, 1, 1, 2)),
        asks_other_user=not is_webhook and "task" not in entry and drawn.random() < 0.3,
        is_forged=is_webhook and drawn.random() < 0.5,
        patience=drawn.choice(PATIENCE_SECONDS),
    )


def _fault(
    drawn: random.Random, run: int, number: int, name: str, entry: str, points: Points
) -> Fault:
    kind = KINDS[name]
    where = drawn.choice(kind.where or ("call",))
    target = kind.target
    if target == REQUEST and entry in STORED:
        is_stored = points[entry][where] and drawn.random() < 0.4
        target = REQUEST if is_stored else WORKER
    count = points[entry if target == REQUEST else target][where]
    return Fault(
        run=run,
        kind=name,
        act=kind.act,
        number=number,
        target=target,
        where=where,
        at=drawn.randint(1, max(1, count)),
        when=drawn.choice(kind.when),
        # At a call always, for then a late writer follows.
        seconds=drawn.choice((LONG_STOP, LONG_STOP, SHORT_STOP))
        if where != "call"
        else LONG_STOP,
        provider=drawn.choice(kind.provider) if kind.provider else "",
    )
