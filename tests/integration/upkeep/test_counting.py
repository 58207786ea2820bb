"""What happens is counted by the hour, and each number in the right place."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.db import Error, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.urls import path
from django.utils import timezone

from django_idempotency.core.amounts import amount_in
from django_idempotency.decorators import idempotent
from django_idempotency.engine import counting
from django_idempotency.engine.counting import MOST_ENDPOINTS, OTHER, counter
from django_idempotency.models import HourlyCount
from django_idempotency.store import hours
from django_idempotency.webhooks import Event, PermanentError, providers, webhook
from tests.support.cases import cases
from tests.support.deliveries import SECRET, deliver, stripe
from tests.support.ordering import forgiving_client, send, word
from tests.support.programs import environment
from tests.support.records import change, record

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

LEASE = timedelta(minutes=1)
ROWS = ("endpoint", "outcome", "currency", "count", "amount")


def order(request: HttpRequest, number: int) -> HttpResponse:
    body = request.body.decode()
    if amount := body.strip('"'):
        request.idempotency.about(f"order-{number}", amount=amount)  # type: ignore[attr-defined]
        request.idempotency.about(f"invoice-{number}", amount=amount)  # type: ignore[attr-defined]
    return JsonResponse({}, status=201)


def handle(event: Event) -> None:
    if event.id == "evt_dead":
        raise PermanentError


urlpatterns = [
    path("orders/<int:number>/pay/", idempotent(order)),
    path("leased/<int:number>/", idempotent(lease=LEASE, wait=timedelta(0))(order)),
    path(
        "event/",
        webhook(providers.STRIPE, secrets=SECRET, endpoint="counted")(handle),
    ),
]
PAY = "POST /orders/<int:number>/pay/"


@pytest.fixture(autouse=True)
def client() -> Iterator[Client]:
    counter.forget()
    yield forgiving_client()
    counter.forget()


def counted() -> set[tuple[Any, ...]]:
    counter.flush()
    return set(HourlyCount.objects.values_list(*ROWS))


def outcomes() -> dict[str, int]:
    counter.flush()
    return Counter(dict(HourlyCount.objects.values_list("outcome", "count")))


def test_repeats_are_counted_with_what_they_would_have_cost(client: Client) -> None:
    for number, amount in ((1, "46.82 EUR"), (2, "3.18 EUR"), (3, "5 USD"), (4, "")):
        for _ in range(3):
            send(client, f"/orders/{number}/pay/", f'"{amount}"', key=f"k{number}")
    zero = Decimal(0)

    assert counted() == {
        (PAY, "claimed", "", 4, zero),
        (PAY, "kept", "", 4, zero),
        (PAY, "replayed", "EUR", 4, Decimal(100)),
        (PAY, "replayed", "USD", 2, Decimal(10)),
        (PAY, "replayed", "", 2, zero),
    }
    send(client, "/orders/1/pay/", '"46.82 EUR"', key="k1")
    assert (PAY, "replayed", "EUR", 5, Decimal("146.82")) in counted()


def test_each_way_to_end_is_counted_under_its_name(client: Client) -> None:
    send(client, "/leased/1/")
    send(client, "/leased/1/", '{"a":1}')
    change(state="in_flight", lease_expires_at=timezone.now() + LEASE)
    assert word(send(client, "/leased/1/")) == "409 in-flight"
    change(state="held", lease_expires_at=None, held_since=timezone.now())
    assert word(send(client, "/leased/1/")) == "409 outcome-unknown"
    for name in ("evt_1", "evt_1", "evt_dead"):
        deliver("/event/", stripe(name))

    assert outcomes() == {
        "claimed": 1,
        "kept": 1,
        "mismatched": 1,
        "in_flight": 1,
        "held": 1,
        "event_processed": 1,
        "event_duplicate": 1,
        "event_dead": 1,
    }
    hour = HourlyCount.objects.values_list("hour", flat=True).first()
    assert hour is not None
    assert timedelta(0) <= timezone.now() - hour < timedelta(hours=2)
    assert hour.minute == hour.second == 0
    assert record().path == "/leased/1/"


def test_time_of_an_event_counts_from_its_receipt() -> None:
    deliver("/event/", stripe("evt_1"))
    from django_idempotency.models import ProcessedEvent

    row = ProcessedEvent.objects.get()
    row.processed_at = row.received_at + timedelta(seconds=90)
    row.save()
    counter.flush()

    assert HourlyCount.objects.get().waited == pytest.approx(90)


def test_many_endpoints_become_one() -> None:
    for number in range(MOST_ENDPOINTS + 50):
        for _ in range(2):
            counter.add(f"POST /{number}/", "claimed", 0.0, record_id())
    counter.flush()

    assert HourlyCount.objects.count() == MOST_ENDPOINTS + 1
    assert HourlyCount.objects.get(endpoint=OTHER).count == 100


def record_id() -> Any:
    from tests.support.values import OPERATION

    return OPERATION.record_id


@cases(
    "endpoint",
    {
        "long": "POST /" + "x" * 1000,
        "no text": "POST /\0\ud800",
        "capital": "POST /ä/É",
    },
)
def test_any_endpoint_can_be_written_down(endpoint: str) -> None:
    for _ in range(2):
        counter.add(endpoint, "claimed", 0.0, record_id())
        counter.flush()

    assert HourlyCount.objects.get().count == 2


def test_nothing_is_written_into_another_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test's database is gone, and the settings name the real one again."""
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "NAME", "of_another_time")
        counter.add("POST /", "claimed", 0.0, record_id())
    counter.add("POST /", "kept", 0.0, record_id())

    assert outcomes() == {"kept": 1}


def test_nothing_is_lost_or_counted_twice_by_a_failure(client: Client) -> None:
    send(client, "/orders/1/pay/")
    with connection.execute_wrapper(_busy), pytest.raises(Error):
        counter.flush()
    send(client, "/orders/1/pay/")

    assert outcomes() == {"claimed": 1, "kept": 1, "replayed": 1}


def _busy(execute: Any, sql: str, *rest: Any) -> Any:
    """The database refuses, as when two processes have locked each other's rows."""
    if HourlyCount._meta.db_table not in sql:
        return execute(sql, *rest)
    raise conflict()


def conflict() -> Error:
    from django.db import OperationalError

    if connection.vendor == "sqlite":
        import sqlite3

        busy = OperationalError("database is locked")
        busy.__cause__ = sqlite3.OperationalError()
        busy.__cause__.sqlite_errorcode = sqlite3.SQLITE_BUSY
        return busy
    error = OperationalError(1213, "deadlock")
    if connection.vendor == "postgresql":
        from psycopg.errors import DeadlockDetected

        error.__cause__ = DeadlockDetected()
    return error


def test_no_thread_writes_in_a_test_run(client: Client) -> None:
    send(client, "/orders/1/pay/")

    names = {thread.name for thread in threading.enumerate()}
    assert "idempotency-counts" not in names


@pytest.mark.postgresql
@cases("is_on", {"on": True, "off": False})
def test_counting_is_a_setting(is_on: bool) -> None:
    program = (
        "import django, sys; from django.conf import settings;"
        f" settings.IDEMPOTENCY_STATISTICS = {is_on}; django.setup();"
        " from django_idempotency.engine.reporting import report;"
        " from tests.support.values import OPERATION; report('claimed', OPERATION);"
        " import threading;"
        " print([each.name for each in threading.enumerate()][1:])"
    )
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        check=True,
        text=True,
    )

    assert done.stdout.strip() == str(["idempotency-counts"] if is_on else [])
    assert HourlyCount.objects.count() == int(is_on)


def test_purge_deletes_old_hours(settings: Any) -> None:
    settings.IDEMPOTENCY_STATISTICS_RETENTION = timedelta(days=30)
    now = int(timezone.now().timestamp()) // 3600
    hours.add(
        [
            hours.Tally(hour=now - days * 24, endpoint="/", outcome="kept", count=days)
            for days in range(1, 151)
        ],
        using="default",
    )
    said = io.StringIO()
    call_command("purge_idempotency_keys", "--older-than", "10d", stdout=said)
    assert HourlyCount.objects.count() == 39
    call_command("purge_idempotency_keys", stdout=said)

    assert HourlyCount.objects.count() == 29
    assert "111 counts of hours" in said.getvalue()


@cases(
    "text, amount",
    {
        "code": ("46.82 EUR", (Decimal("46.82"), "EUR")),
        "sign": ("€46.82", (Decimal("46.82"), "€")),
        "thousands": ("1,250 jpy", (Decimal(1250), "JPY")),
        "code first": ("USD 5", (Decimal(5), "USD")),
        "either of two": ("46,82 EUR", None),
        "no currency": ("46.82", None),
        "two of them": ("EUR 4 USD", None),
        "less than nothing": ("-4 EUR", None),
        "endless": ("9" * 40 + " EUR", None),
        "no text": ("\0", None),
        "empty": ("", None),
    },
)
def test_amount_is_added_up_only_if_it_is_certain(text: str, amount: Any) -> None:
    assert amount_in(text) == amount


def test_thread_goes_on_after_a_failure_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ours = counting.Counter()
    rounds = [0]

    def fail() -> None:
        rounds[0] += 1
        if rounds[0] == 3:
            ours._is_over.set()
        raise Error("away")

    monkeypatch.setattr(counting, "INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(ours, "_write", fail)
    caplog.set_level(logging.INFO, "django_idempotency")
    ours._run()

    assert rounds[0] in (3, 4)
    levels = [each.levelname for each in caplog.records]
    assert levels == ["WARNING", *["INFO"] * (rounds[0] - 1)]


def test_interpreter_that_starts_no_thread_still_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(thread: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(counting, "_is_test_run", lambda: False)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    counter.add(PAY, "claimed", 0, record_id())

    assert counted() == {(PAY, "claimed", "", 1, 0)}


def test_database_that_is_away_for_long_costs_numbers_and_not_memory() -> None:
    counter.add(PAY, "claimed", 0, record_id())
    sums, counter._sums = counter._sums, {}
    for number in range(counting.MOST_KEPT):
        counter._sums["default", number, "", "claimed"] = counting._Sum()
    counter._take_back(sums)  # type: ignore[arg-type]

    assert len(counter._sums) == counting.MOST_KEPT


def test_endpoints_of_earlier_hours_are_forgotten() -> None:
    counter._endpoints[1] = {PAY}
    counter.add(PAY, "claimed", 0, record_id())

    assert 1 not in counter._endpoints


def test_in_a_test_run_the_thread_writes_nothing() -> None:
    counter.add(PAY, "claimed", 0, record_id())
    thread = threading.Thread(target=counter._write)
    thread.start()
    thread.join(10)

    assert (counter._sums, HourlyCount.objects.count()) == ({}, 0)


def test_outcomes_are_signals() -> None:
    from django_idempotency import signals

    by_people = {"dropped", "erased", "forgotten", "freed", "rerun", "settled"}
    others = {*by_people, "unkeyed"}
    assert {*counting.OF_OPERATIONS, *counting.OF_EVENTS} == {*signals.__all__} - others


@cases("place", {"request": "/orders/1/pay/", "event": "/event/"})
def test_error_while_counting_breaks_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(counter, "add", lambda *args: 1 / 0)
    sent = stripe()
    statuses = [
        send(client, place, sent.body, **sent.headers).status_code for _ in range(2)
    ]

    assert max(statuses) < 300
