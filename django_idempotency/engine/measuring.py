"""What monitoring gets to know: the instruments, and what the signals say for them.

It knows no monitoring system. One is a `Meter`; those in `contrib` are that. The names
of endpoints are those in the code, and their number is bounded, so that nothing of a
client is ever among the labels.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from django.db import connections

from django_idempotency import signals
from django_idempotency.core.operations import Operation, endpoint_of
from django_idempotency.fields import with_zone
from django_idempotency.store.health import waiting

from .counting import MOST_ENDPOINTS, OTHER

logger = logging.getLogger("django_idempotency")

OF_REQUESTS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
OF_EVENTS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 21600.0)
BY_OUTCOME = ("endpoint", "outcome")
BY_ENDPOINT = ("endpoint",)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instrument:
    """One thing that is measured."""

    name: str
    kind: Literal["counter", "histogram", "gauge"]
    told: str
    """What it is, in a sentence for whoever reads the numbers."""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Of a histogram: the upper bounds, in seconds."""
    is_time: bool = False
    """Whether it is in seconds; else it is a number of things."""


DECISIONS = Instrument(
    name="decisions",
    kind="counter",
    told="Requests and tasks with a key, by what became of each.",
    labels=BY_OUTCOME,
)
UNKEYED = Instrument(
    name="unkeyed",
    kind="counter",
    told="POST and PATCH requests to protected views that came without a key.",
    labels=BY_ENDPOINT,
)
TAKEOVERS = Instrument(
    name="takeovers",
    kind="counter",
    told="Operations that went on with what another one had begun, whose lease was over.",
    labels=BY_ENDPOINT,
)
WAIT = Instrument(
    name="wait",
    kind="histogram",
    told="How long those waited that were answered without running.",
    labels=BY_ENDPOINT,
    buckets=OF_REQUESTS,
    is_time=True,
)
RUN = Instrument(
    name="run",
    kind="histogram",
    told="How long the work ran of those that ran.",
    labels=BY_ENDPOINT,
    buckets=OF_REQUESTS,
    is_time=True,
)
EVENTS = Instrument(
    name="events",
    kind="counter",
    told="Webhook events, by what became of each delivery or attempt.",
    labels=BY_OUTCOME,
)
EVENT_WAIT = Instrument(
    name="event_wait",
    kind="histogram",
    told="How long after its first reception an event was processed.",
    labels=BY_ENDPOINT,
    buckets=OF_EVENTS,
    is_time=True,
)
EVENT_LAG = Instrument(
    name="event_lag",
    kind="histogram",
    told="How long after its time at the provider an event was processed.",
    labels=BY_ENDPOINT,
    buckets=OF_EVENTS,
    is_time=True,
)
MEASURED = (
    *(DECISIONS, UNKEYED, TAKEOVERS, WAIT, RUN),
    *(EVENTS, EVENT_WAIT, EVENT_LAG),
)
"""What each process measures of itself."""

DATABASE_UP = Instrument(
    name="database_up",
    kind="gauge",
    told="1 if what waits could be read just now, 0 if not; then its gauges are missing.",
)
WAITING = tuple(
    gauge
    for name, what in (
        ("held", "operations that wait for a person"),
        ("dead", "events that wait for a person"),
        ("due", "events that a worker would take now"),
    )
    for gauge in (
        Instrument(name=name, kind="gauge", told=f"How many {what}, at most 10,000."),
        Instrument(
            name=f"{name}_oldest",
            kind="gauge",
            told=f"How long the oldest of the {what} has waited; 0 if there is none.",
            is_time=True,
        ),
    )
)
READ = (DATABASE_UP, *WAITING)
"""What is read from the database when somebody asks; the same from each process."""


class Meter(Protocol):
    """A monitoring system."""

    def add(self, instrument: Instrument, **labels: str) -> None:
        """Count one more."""

    def record(self, instrument: Instrument, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""


Receiver = Callable[..., None]
Stop = Callable[[], None]


def feed(meter: Meter) -> Stop:
    """Let the signals feed a meter from now on, until what is returned is called.

    What a meter raises, `send_robust()` keeps from the request, and logs.
    """
    feeding = _Feeding(meter)
    return listen(
        [
            ("claimed", feeding.ran),
            ("unkeyed", feeding.unkeyed),
            ("event_processed", feeding.processed),
        ],
        of_operations=feeding.decided,
        of_events=feeding.happened,
    )


def listen(
    receivers: Iterable[tuple[str, Receiver]] = (),
    *,
    of_operations: Receiver,
    of_events: Receiver,
) -> Stop:
    """Connect receivers to signals by name, and two to all that say an outcome: they
    get that first."""
    connected = [
        *receivers,
        *((each, _told(of_operations, each)) for each in DECIDED),
        *((f"event_{each}", _told(of_events, each)) for each in EVENT_OUTCOMES),
    ]
    for name, receiver in connected:
        getattr(signals, name).connect(receiver, weak=False)

    def stop() -> None:
        for name, receiver in connected:
            getattr(signals, name).disconnect(receiver)

    return stop


def _told(receiver: Receiver, outcome: str) -> Receiver:
    # No partial: `send_robust()` logs the name of a receiver that raises, and would
    # itself raise, into the request, where there is none.
    def receive(**said: Any) -> None:
        receiver(outcome, **said)

    return receive


DECIDED = (
    *("kept", "released", "held"),
    *("replayed", "in_flight", "mismatched", "expired", "possible_duplicate"),
)
"""Each request with a key ends in one of these."""
EVENT_OUTCOMES = ("processed", "duplicate", "failed", "dead", "ignored")


class _Feeding:
    """What each signal says for a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._endpoints: set[str] = set()

    def ran(self, *, operation: Operation, **more: Any) -> None:
        endpoint = self._known(operation.endpoint)
        if operation.ran is not None:  # pragma: no branch - it is said of work that ran
            self._meter.record(RUN, operation.ran, endpoint=endpoint)
        if operation.took_over:
            self._meter.add(TAKEOVERS, endpoint=endpoint)

    def decided(self, outcome: str, *, operation: Operation, **more: Any) -> None:
        endpoint = self._known(operation.endpoint)
        self._meter.add(DECISIONS, endpoint=endpoint, outcome=outcome)
        if operation.ran is None:
            self._meter.record(WAIT, operation.waited, endpoint=endpoint)

    def unkeyed(self, *, request: Any, **more: Any) -> None:
        route = getattr(request.resolver_match, "route", None)
        endpoint = self._known(endpoint_of(request.method, route))
        self._meter.add(UNKEYED, endpoint=endpoint)

    def happened(self, outcome: str, *, event: Any, **more: Any) -> None:
        endpoint = self._known(event.endpoint)
        self._meter.add(EVENTS, endpoint=endpoint, outcome=outcome)

    def processed(self, *, event: Any, waited: float, **more: Any) -> None:
        endpoint = self._known(event.endpoint)
        self._meter.record(EVENT_WAIT, waited, endpoint=endpoint)
        # What nobody has signed may say any time.
        if event.occurred_at is not None and "occurred_at" not in event.unsigned:
            self._meter.record(EVENT_LAG, _age(event.occurred_at), endpoint=endpoint)

    def _known(self, endpoint: str) -> str:
        if endpoint in self._endpoints:
            return endpoint
        if len(self._endpoints) >= MOST_ENDPOINTS:
            return OTHER
        self._endpoints.add(endpoint)
        return endpoint


PATIENCE_SECONDS = 3.0
"""How long a scrape waits for the database; after it, that counts as away."""
FRESH_SECONDS = 1.0
"""For so long nobody asks again: there are several gauges, and maybe several scrapers."""


class Waits:
    """What waits for somebody, as a scrape asks for it.

    A thread of its own reads, over a connection of its own that it closes again: a
    database that hangs delays a scrape by `PATIENCE_SECONDS` and not for ever, an event
    loop may ask, and a transaction around the scrape is left alone.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._found: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self._fresh_until = 0.0

    def read(self) -> dict[str, float]:
        """Return the numbers of the gauges in `READ`, those that are known, by name."""
        with self._lock:
            if time.monotonic() >= self._fresh_until:
                self._told = self._asked()
                self._fresh_until = time.monotonic() + FRESH_SECONDS
            return self._told

    def _asked(self) -> dict[str, float]:
        if self._thread is None or not self._thread.is_alive():
            self._found = {}
            self._thread = threading.Thread(
                target=self._ask, name="idempotency-waits", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter ends, or allows no thread
                self._thread = None
                return {}
        self._thread.join(PATIENCE_SECONDS)
        is_done = not self._thread.is_alive()
        up = {DATABASE_UP.name: float(is_done and bool(self._found))}
        return {**up, **self._found} if is_done else up

    def _ask(self) -> None:
        try:
            now = waiting()
        except Exception as error:
            # No warning: the number says it, and it may be so for long.
            logger.info("What waits could not be read: %s", type(error).__name__)
            return
        finally:
            connections.close_all()  # this thread's own
        found: dict[str, float] = {}
        for name, (count, since) in now.items():
            found[name] = float(count)
            found[f"{name}_oldest"] = 0.0 if since is None else _age(since)
        self._found = found


def _age(moment: datetime) -> float:
    # The clocks of host and database, or provider, may differ a little.
    return max(0.0, (datetime.now(UTC) - with_zone(moment)).total_seconds())
