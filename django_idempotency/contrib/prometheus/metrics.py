from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from django_idempotency.engine.measuring import (
    MEASURED,
    READ,
    Instrument,
    Waits,
    feed,
)

__all__ = ["WaitingCollector"]


def name_of(instrument: Instrument) -> str:
    """Return its name for Prometheus, to which a counter's ``_total`` is added."""
    unit = "_seconds" if instrument.is_time else ""
    return f"idempotency_{instrument.name}{unit}"


class PrometheusMeter:
    """Counters and histograms in a registry, or in the files that processes share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counters: dict[Instrument, Counter] = {}
        self._histograms: dict[Instrument, Histogram] = {}
        for each in MEASURED:
            name = name_of(each)
            if each.kind == "counter":
                self._counters[each] = Counter(
                    name, each.told, each.labels, registry=registry
                )
            else:
                self._histograms[each] = Histogram(
                    name,
                    each.told,
                    each.labels,
                    registry=registry,
                    buckets=each.buckets,
                )

    def add(self, instrument: Instrument, **labels: str) -> None:
        self._counters[instrument].labels(**labels).inc()

    def record(self, instrument: Instrument, seconds: float, **labels: str) -> None:
        self._histograms[instrument].labels(**labels).observe(seconds)


class WaitingCollector(Collector):
    """The gauges of what waits, read from the database at each scrape.

    An address of your own for several processes (``PROMETHEUS_MULTIPROC_DIR``) has a
    registry of its own, too: register one there.
    """

    def __init__(self) -> None:
        self._waits = Waits()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Name them without asking the database, as when they are registered."""
        for each in READ:
            yield GaugeMetricFamily(name_of(each), each.told)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = self._waits.read()
        for each in READ:
            if each.name in found:
                yield GaugeMetricFamily(name_of(each), each.told, found[each.name])


waiting = WaitingCollector()


@cache
def install() -> None:
    """Measure from now on, in the registry that everybody uses."""
    feed(PrometheusMeter(REGISTRY))
    REGISTRY.register(waiting)


def registry() -> CollectorRegistry:
    """Return what a scrape of this process gets: if they share files, that of all."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    shared = CollectorRegistry()
    MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
    shared.register(waiting)
    return shared
