from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

from opentelemetry import trace
from opentelemetry.metrics import (
    CallbackOptions,
    Counter,
    Histogram,
    Meter,
    Observation,
    get_meter,
)

from django_idempotency.core.operations import Operation
from django_idempotency.engine.measuring import (
    MEASURED,
    READ,
    Instrument,
    Stop,
    Waits,
    feed,
    listen,
)

NAME = "django_idempotency"


def name_of(instrument: Instrument) -> str:
    """Return its name for OpenTelemetry, where the unit stands beside it."""
    return f"idempotency.{instrument.name}"


class OpenTelemetryMeter:
    """Instruments of a meter; until the project has set one up, they do nothing."""

    def __init__(self, meter: Meter) -> None:
        self._counters: dict[Instrument, Counter] = {}
        self._histograms: dict[Instrument, Histogram] = {}
        for each in MEASURED:
            name = name_of(each)
            if each.kind == "counter":
                self._counters[each] = meter.create_counter(name, "1", each.told)
            else:
                self._histograms[each] = meter.create_histogram(
                    name,
                    "s",
                    each.told,
                    explicit_bucket_boundaries_advisory=each.buckets,
                )
        waits = Waits()
        for each in READ:
            meter.create_observable_gauge(
                name_of(each),
                callbacks=[partial(_observed, waits, each)],
                unit="s" if each.is_time else "1",
                description=each.told,
            )

    def add(self, instrument: Instrument, **labels: str) -> None:
        self._counters[instrument].add(1, _attributes(labels))

    def record(self, instrument: Instrument, seconds: float, **labels: str) -> None:
        self._histograms[instrument].record(seconds, _attributes(labels))


def _observed(
    waits: Waits, gauge: Instrument, options: CallbackOptions
) -> Iterator[Observation]:
    found = waits.read()
    if gauge.name in found:
        yield Observation(found[gauge.name])


def _attributes(labels: dict[str, str]) -> dict[str, str]:
    return {f"idempotency.{name}": value for name, value in labels.items()}


def annotate_spans() -> Stop:
    """Say on the current span what became of an operation or an event, and of which.

    By its record, never by the client's key or whose it is.
    """
    return listen(of_operations=_annotate_operation, of_events=_annotate_event)


def _annotate_operation(outcome: str, *, operation: Operation, **more: Any) -> None:
    _annotate(
        outcome=outcome,
        endpoint=operation.endpoint,
        record_id=str(operation.record_id),
        reference=operation.reference,
    )


def _annotate_event(outcome: str, *, event: Any, **more: Any) -> None:
    _annotate(outcome=outcome, endpoint=event.endpoint, row_id=str(event.row_id))


def _annotate(**told: str) -> None:
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attributes(_attributes(told))


@cache
def install() -> None:
    """Measure from now on, with the meter and tracer that the project sets up."""
    feed(OpenTelemetryMeter(get_meter(NAME)))
    annotate_spans()
