"""What monitoring is told agrees with what happened, in each shape and at each entrance.

What happened is said by the answers, by the database, and by the works themselves, each
of which notes that it ran, and what it was told to do.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection, connections
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry
from rest_framework.authentication import SessionAuthentication
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency import signals
from django_idempotency.contrib.opentelemetry.metrics import (
    OpenTelemetryMeter,
    annotate_spans,
)
from django_idempotency.contrib.prometheus.metrics import PrometheusMeter, name_of
from django_idempotency.decorators import idempotent
from django_idempotency.engine import measuring
from django_idempotency.engine.counting import MOST_ENDPOINTS, OTHER
from django_idempotency.engine.idempotency import current_operation
from django_idempotency.engine.measuring import (
    DECISIONS,
    EVENT_LAG,
    EVENT_WAIT,
    EVENTS,
    MEASURED,
    RUN,
    TAKEOVERS,
    UNKEYED,
    WAIT,
    Instrument,
    feed,
)
from django_idempotency.exceptions import (
    AnswerExpired,
    KeyReused,
    OperationInFlight,
    OutcomeUnknown,
)
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.rest_framework import IdempotencyMixin
from django_idempotency.tasks import idempotent_task
from django_idempotency.webhooks import Event, PermanentError, providers, webhook
from django_idempotency.webhooks.inbox import Step, process_next
from tests.integration.webhooks.receivers import make_due
from tests.support.cases import cases
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.ordering import forgiving_client, send, word
from tests.support.records import change
from tests.support.values import OPERATION

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

LEASE = timedelta(minutes=1)
AT_ONCE = timedelta(0)


class Scene:
    """What ran, and what the copy of a running one got."""

    ran: list[str] = []
    """What each work was told to do."""
    copy: Callable[[], None] = staticmethod(lambda: None)


scene = Scene()


class Broken(Exception):
    """The work has failed."""


def work(fate: str) -> int:
    """Do what is said; 500 or 201 for those that answer."""
    scene.ran.append(fate)
    if fate == "copied":
        scene.copy()
    if fate == "held":
        current_operation().call("charge", _lose, if_unknown="hold")
    if fate == "raises":
        raise Broken
    return 503 if fate == "fails" else 201


def _lose(key: str) -> str:
    raise ConnectionError


def plain(request: HttpRequest, number: int) -> HttpResponse:
    return HttpResponse(status=work(request.body.decode().strip('"')))


class Rest(IdempotencyMixin, APIView):
    authentication_classes = (SessionAuthentication,)
    idempotency_policy = IdempotencyPolicy(wait=AT_ONCE)

    def post(self, request: Any, number: int) -> Response:
        return Response(status=work(request.data))


@idempotent_task(key=lambda key, fate: key, copies="raise", name="shop.task")
def task(key: str, fate: str) -> int:
    return work(fate)


@idempotent_task(
    key=lambda key, fate: key, copies="raise", name="shop.leased", lease=LEASE
)
def leased_task(key: str, fate: str) -> int:
    return work(fate)


def handle(event: Event) -> None:
    scene.ran.append(event.type)
    if event.type == "dead":
        raise PermanentError
    if event.type == "raises":
        raise Broken


def receiver(name: str, **options: Any) -> Any:
    named = webhook(
        providers.STRIPE, secrets=SECRET, endpoint=f"measured-{name}", **options
    )
    return named(handle)


urlpatterns = [
    path("plain/<int:number>/", idempotent(wait=AT_ONCE)(plain)),
    path("leased/<int:number>/", idempotent(wait=AT_ONCE, lease=LEASE)(plain)),
    path("rest/<int:number>/", Rest.as_view()),
    path(
        "rest-leased/<int:number>/",
        Rest.as_view(idempotency_policy=IdempotencyPolicy(wait=AT_ONCE, lease=LEASE)),
    ),
    path("inline/", receiver("inline", livemode=True)),
    path("inbox/", receiver("inbox", livemode=True, inbox=True, max_attempts=2)),
]


class Told:
    """What both monitoring systems have been told, as one says it."""

    def __init__(self, registry: CollectorRegistry, reader: InMemoryMetricReader):
        self.registry = registry
        self.reader = reader

    def __call__(self, instrument: Instrument) -> dict[tuple[str, ...], float]:
        """By the values of the labels; of a histogram, how many were recorded."""
        name = name_of(instrument)
        suffix = "_total" if instrument.kind == "counter" else "_count"
        told = {
            tuple(sample.labels[each] for each in instrument.labels): sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name + suffix
        }
        assert told == self._told_otherwise(instrument)
        return told

    def _told_otherwise(self, instrument: Instrument) -> dict[tuple[str, ...], float]:
        told = {}
        for name, point in points(self.reader):
            if name == f"idempotency.{instrument.name}":
                values = [
                    point.attributes[f"idempotency.{each}"]
                    for each in instrument.labels
                ]
                told[tuple(values)] = getattr(point, "value", None) or point.count
        return told


def points(reader: InMemoryMetricReader) -> Iterator[tuple[str, Any]]:
    data: Any = reader.get_metrics_data()
    for resource in data.resource_metrics if data else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                for point in metric.data.data_points:
                    yield metric.name, point


@pytest.fixture
def told() -> Iterator[Told]:
    scene.ran, scene.copy = [], lambda: None
    registry, reader = CollectorRegistry(), InMemoryMetricReader()
    meter = MeterProvider([reader]).get_meter("tests")
    stops = [feed(PrometheusMeter(registry)), feed(OpenTelemetryMeter(meter))]
    yield Told(registry, reader)
    for stop in stops:
        stop()


# Operations


WORDS = {
    "409 in-flight": "in_flight",
    "422 key-reused": "mismatched",
    "409 outcome-unknown": "held",
    "409 answer-expired": "expired",
}


def over_http(place: str, client: Client, key: str, fate: str) -> str | None:
    response = send(client, f"/{place}/7/", f'"{fate}"', key=key)
    said = word(response)
    return "replayed" if said.endswith("replayed") else WORDS.get(said)


def as_task(function: Any, client: Client, key: str, fate: str) -> str | None:
    before = len(scene.ran)
    try:
        function(key, fate)
    except (Broken, ConnectionError):
        return None
    except OperationInFlight:
        return "in_flight"
    except KeyReused:
        return "mismatched"
    except OutcomeUnknown:
        return "held"
    except AnswerExpired:
        return "expired"
    return "replayed" if len(scene.ran) == before else None


ENTRANCES: dict[str, tuple[str, Any, bool]] = {
    "plain": ("POST /plain/<int:number>/", partial(over_http, "plain"), False),
    "leased": ("POST /leased/<int:number>/", partial(over_http, "leased"), True),
    "rest": ("POST /rest/<int:number>/", partial(over_http, "rest"), False),
    "rest-leased": (
        "POST /rest-leased/<int:number>/",
        partial(over_http, "rest-leased"),
        True,
    ),
    "task": ("TASK shop.task", partial(as_task, task), False),
    "leased-task": ("TASK shop.leased", partial(as_task, leased_task), True),
}
BECOMES = {
    "done": "kept",
    "copied": "kept",
    "raises": "released",
    "fails": "released",
    "held": "held",
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_each_request_is_counted_once_under_what_became_of_it(
    entrance: str, seed: int, told: Told
) -> None:
    endpoint, ask, is_leased = ENTRANCES[entrance]
    dice, client = random.Random(seed), forgiving_client()  # noqa: S311 - no secret
    happened: Counter[str] = Counter()
    answered = 0
    fates = [each for each in BECOMES if is_leased or each != "held"]
    if "task" in entrance:
        fates.remove("fails")  # what a task returns is its result
    if connection.vendor == "sqlite" and not is_leased:
        fates.remove("copied")  # a copy can't tell the key from the whole database

    def ask_once(key: str, fate: str) -> None:
        nonlocal answered
        before = len(scene.ran)
        became = ask(client, key, fate)
        if became in ("replayed", "in_flight", "mismatched", "expired") or (
            became == "held" and len(scene.ran) == before
        ):
            happened[became] += 1
            answered += 1
        else:
            happened[BECOMES[scene.ran[before]]] += 1

    for _ in range(60):
        key, fate = f"k{dice.randrange(15)}", dice.choice(fates)
        scene.copy = partial(_elsewhere, ask_once, key, fate)
        ask_once(key, fate)
    ask_once("late", "done")
    tombstone = {"expires_at": Now() - LEASE, "remembered_until": Now() + LEASE}
    IdempotencyRecord.objects.update(**tombstone)
    ask_once("late", "done")

    assert {"kept", "released", "replayed", "mismatched", "expired"} <= {*happened}
    assert told(DECISIONS) == {
        (endpoint, outcome): count for outcome, count in happened.items()
    }
    assert told(RUN) == {(endpoint,): len(scene.ran)}
    assert told(WAIT) == {(endpoint,): answered}
    assert (told(TAKEOVERS), told(UNKEYED), told(EVENTS)) == ({}, {}, {})


def _elsewhere(ask: Callable[[str, str], None], key: str, fate: str) -> None:
    """Ask from another thread, over another connection."""

    def run() -> None:
        try:
            ask(key, fate)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


@cases("entrance", {name: name for name, each in ENTRANCES.items() if each[2]})
def test_going_on_after_a_lease_that_is_over_is_a_takeover(
    entrance: str, told: Told
) -> None:
    endpoint, ask, _is_leased = ENTRANCES[entrance]
    client = forgiving_client()
    ask(client, "K", "done")
    # As a kill leaves it.
    over = datetime.now(UTC) - timedelta(seconds=1)
    change(state="in_flight", lease_expires_at=over, response_status=None)
    ask(client, "K", "done")
    ask(client, "other", "raises")
    ask(client, "other", "raises")  # after a failure, there is nothing to go on with

    assert told(TAKEOVERS) == {(endpoint,): 1}
    assert told(DECISIONS) == {(endpoint, "kept"): 2, (endpoint, "released"): 2}


def test_wait_and_run_are_told_apart(told: Told) -> None:
    heard: list[tuple[float, float | None]] = []

    def listen(operation: Any, **more: Any) -> None:
        heard.append((operation.waited, operation.ran))

    client, slept = forgiving_client(), threading.Event()
    scene.copy = lambda: slept.wait(0.2)  # type: ignore[assignment]
    for signal in (signals.kept, signals.replayed):
        signal.connect(listen)
    try:
        for _ in range(2):
            send(client, "/plain/7/", '"copied"')
    finally:
        for signal in (signals.kept, signals.replayed):
            signal.disconnect(listen)
    (first_waited, first_ran), (_waited, ran) = heard

    assert first_ran is not None
    assert first_ran >= 0.2 > first_waited
    assert ran is None


def test_requests_without_a_key_are_counted(told: Told) -> None:
    send(forgiving_client(), "/plain/7/", key=None)

    assert told(UNKEYED) == {("POST /plain/<int:number>/",): 1}
    assert told(DECISIONS) == {}


# Events


STEPS = {
    Step.PROCESSED: "processed",
    Step.IGNORED: "ignored",
    Step.FAILED: "failed",
    Step.DEAD: "dead",
}
OF_EVENTS = ("done", "raises", "dead", "ignored")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("place", ["inline", "inbox"])
def test_each_attempt_at_an_event_is_counted_once(
    place: str, seed: int, told: Told
) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    happened: Counter[str] = Counter()
    for _ in range(50):
        fate = dice.choice(OF_EVENTS)
        # The mode is part of what identifies an event.
        is_live = fate != "ignored"
        name = f"evt_{dice.randrange(12)}_{is_live}"
        sent = stripe(name, type=fate, livemode=is_live)
        attempts, stored = _attempts(), ProcessedEvent.objects.count()
        deliver(f"/{place}/", sent)
        if place == "inline" and _attempts() > attempts:
            happened[ProcessedEvent.objects.get(event_id=name).state] += 1
        elif ProcessedEvent.objects.count() == stored:
            happened["duplicate"] += 1
        while (step := process_next()) is not Step.NOTHING_DUE:
            happened[STEPS[step]] += 1
        make_due()

    endpoint = f"measured-{place}"
    assert {"processed", "failed", "dead", "ignored", "duplicate"} <= {*happened}
    assert told(EVENTS) == {(endpoint, each): n for each, n in happened.items()}
    assert told(EVENT_WAIT) == told(EVENT_LAG) == {(endpoint,): happened["processed"]}
    assert (told(DECISIONS), told(RUN)) == ({}, {})


def _attempts() -> int:
    return sum(ProcessedEvent.objects.values_list("attempts", flat=True))


@cases("place", {"inline": "inline", "inbox": "inbox"})
def test_event_waits_from_its_first_reception_and_lags_from_its_time(
    place: str, told: Told
) -> None:
    created = int(datetime.now(UTC).timestamp()) - 600
    heard: list[float] = []

    def listen(waited: float, **more: Any) -> None:
        heard.append(waited)

    signals.event_processed.connect(listen)
    try:
        deliver(f"/{place}/", stripe(type="raises", created=created))
        process_next()
        ProcessedEvent.objects.update(
            received_at=datetime.now(UTC) - timedelta(seconds=90)
        )
        make_due()
        ProcessedEvent.objects.filter(event_type="raises").exclude(payload=None).update(
            payload=stripe(type="done", created=created).body, event_type="done"
        )
        if place == "inline":
            deliver(f"/{place}/", stripe(type="done", created=created))
        process_next()
    finally:
        signals.event_processed.disconnect(listen)

    assert heard == [pytest.approx(90, abs=30)]
    assert _sum(told, EVENT_WAIT) == pytest.approx(90, abs=30)
    assert _sum(told, EVENT_LAG) == pytest.approx(600, abs=30)


def _sum(told: Told, instrument: Instrument) -> float:
    name = f"{name_of(instrument)}_sum"
    (only,) = [
        sample.value
        for family in told.registry.collect()
        for sample in family.samples
        if sample.name == name
    ]
    return float(only)


def test_time_that_nobody_signed_or_said_is_no_lag(told: Told) -> None:
    unsigned = frozenset({"occurred_at"})
    for occurred_at, names in ((None, frozenset()), (datetime.now(UTC), unsigned)):
        event = SimpleNamespace(
            endpoint="measured",
            row_id=OPERATION.record_id,
            occurred_at=occurred_at,
            unsigned=names,
        )
        signals.event_processed.send(ProcessedEvent, event=event, waited=1.0)

    assert told(EVENT_WAIT) == {("measured",): 2}
    assert told(EVENT_LAG) == {}


# Labels


def test_labels_are_names_in_the_code_and_nothing_of_a_client(told: Told) -> None:
    client = forgiving_client()
    for name in ENTRANCES:
        ENTRANCES[name][1](client, f"secret-key-{name}", "done")
    send(client, "/plain/4711/", key=None)
    deliver("/inline/", stripe("evt_secret", type="done"))
    values = {
        value
        for family in told.registry.collect()
        for sample in family.samples
        for name, value in sample.labels.items()
        if name != "le"
    }

    endpoints = {each[0] for each in ENTRANCES.values()} | {"measured-inline"}
    assert values == endpoints | {"kept", "processed"}


def test_endpoints_are_bounded(told: Told) -> None:
    from dataclasses import replace

    for number in range(MOST_ENDPOINTS + 5):
        signals.kept.send(
            IdempotencyRecord, operation=replace(OPERATION, route=f"{number}/")
        )

    counts = told(DECISIONS)
    assert len(counts) == MOST_ENDPOINTS + 1
    assert counts[OTHER, "kept"] == 5


def test_view_that_no_url_has_led_to_is_named_without_its_path(told: Told) -> None:
    signals.kept.send(IdempotencyRecord, operation=OPERATION)

    assert told(DECISIONS) == {("POST (no route)", "kept"): 1}


# Spans


def test_span_says_which_operation_and_what_became_of_it() -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer, stop = provider.get_tracer("tests"), annotate_spans()
    client = forgiving_client()
    try:
        send(client, "/plain/7/", '"done"', key="secret-key")  # nobody traces this
        for send_it in (
            lambda: send(client, "/plain/7/", '"done"', key="secret-key"),
            lambda: deliver("/inline/", stripe("evt_1", type="done")),
        ):
            with tracer.start_as_current_span("request"):
                send_it()
    finally:
        stop()
    record, event = IdempotencyRecord.objects.get(), ProcessedEvent.objects.get()

    assert [dict(each.attributes or {}) for each in exporter.get_finished_spans()] == [
        {
            "idempotency.record_id": str(record.pk),
            "idempotency.reference": record.reference,
            "idempotency.endpoint": "POST /plain/<int:number>/",
            "idempotency.outcome": "replayed",
        },
        {
            "idempotency.row_id": str(event.pk),
            "idempotency.endpoint": "measured-inline",
            "idempotency.outcome": "processed",
        },
    ]


# What goes wrong


class Failing:
    """A monitoring system that is broken."""

    def add(self, instrument: Instrument, **labels: str) -> None:
        raise OSError("the disk is full")

    record: Any = add


@pytest.mark.parametrize("entrance", [*ENTRANCES, "inline", "inbox"])
def test_meter_that_raises_breaks_nothing(entrance: str) -> None:
    stop, client, scene.ran = feed(Failing()), forgiving_client(), []
    try:
        if entrance in ENTRANCES:
            for _ in range(2):
                ENTRANCES[entrance][1](client, "K", "done")
            assert IdempotencyRecord.objects.get().state == "kept"
        else:
            for _ in range(2):
                deliver(f"/{entrance}/", stripe(type="done"))
            process_next()
            assert ProcessedEvent.objects.get().state == "processed"
    finally:
        stop()
    assert scene.ran == ["done"]


def test_every_instrument_has_a_sentence_and_buckets_that_rise() -> None:
    for each in (*MEASURED, *measuring.READ):
        assert each.told.endswith(".")
        assert [*each.buckets] == sorted(each.buckets)
        assert bool(each.buckets) is (each.kind == "histogram")
