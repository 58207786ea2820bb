"""What is asked of the two tables by monitors: by querysets that say what they mean.

Where a statement of the package asks the same, its answer is the measure.
"""

import io
import os
import re
import shlex
import subprocess
import sys
import uuid
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import sentry_sdk
import yaml
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Manager, Min
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency import signals
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.store import due, health
from django_idempotency.store.health import Gauges, gauges
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.support.values import OPERATION

pytestmark = pytest.mark.django_db

PAGE = Path(__file__).resolve().parents[3] / "docs" / "howto" / "monitor.md"
ANN = UserFactory.build(pk=7)
HOUR = timedelta(hours=1)
AGO, AHEAD = Now() - HOUR, Now() + HOUR


def record(name: str, **columns: Any) -> None:
    IdempotencyRecordFactory.create(user=ANN, key=name, **columns)


def event(name: str, **columns: Any) -> None:
    ProcessedEventFactory.create(**{"event_id": name, "received_at": AGO, **columns})


@pytest.fixture
def _records() -> None:
    record("kept")
    record("kept-old", expired=True)
    record("released", released=True)
    record("released-old", released=True, expired=True)
    record("running", in_flight=True)
    record("running-old", in_flight=True, expired=True)
    record("crashed", in_flight=True, lease_expires_at=AGO)
    record("crashed-old", in_flight=True, lease_expires_at=AGO, expired=True)
    record("calling", held=True, lease_expires_at=AHEAD)
    record("held", held=True)
    record("held-old", held=True, expired=True)
    record("held-crashed", held=True, lease_expires_at=AGO)


def keys(records: Any) -> set[str]:
    return set(records.values_list("key", flat=True))


@pytest.mark.usefixtures("_records")
def test_held_operations_run_nowhere_and_those_in_flight_have_a_live_lease() -> None:
    records = IdempotencyRecord.objects

    assert keys(records.held()) == {"held", "held-old", "held-crashed"}
    assert keys(records.in_flight()) == {"running", "running-old", "calling"}
    assert keys(records.filter(key__endswith="old").held()) == {"held-old"}


@pytest.mark.usefixtures("_records")
def test_expired_records_are_those_that_a_purge_deletes() -> None:
    before = keys(IdempotencyRecord.objects)
    found = keys(IdempotencyRecord.objects.expired())

    call_command("purge_idempotency_keys", stdout=io.StringIO(), stderr=io.StringIO())

    assert found == before - keys(IdempotencyRecord.objects)
    assert found == {"kept-old", "released-old", "crashed-old"}


def test_dead_events_are_those_that_were_given_up() -> None:
    for state in ProcessedEvent.State.values:
        event(state, state=state, payload=None if state == "failed" else b"{}")
        event(f"{state}, due", state=state, payload=b"{}", next_attempt_at=Now())

    # One that was received and isn't due was committed in the middle of its handler.
    found = ProcessedEvent.objects.filter(next_attempt_at=None).dead()
    assert {each.event_id for each in found} == {"dead", "received"}


def test_expired_events_are_those_that_a_purge_deletes() -> None:
    for state in ProcessedEvent.State.values:
        has_payload = state in ("ignored", "dead", "received")
        payload = b"{}" if has_payload else None
        event(f"{state}-old", state=state, payload=payload, expired=True)
        due = {"payload": b"{}", "next_attempt_at": Now(), "expired": True}
        event(f"{state}, due", state=state, **due)
    event("processed")
    before = set(ProcessedEvent.objects.all())
    found = set(ProcessedEvent.objects.expired())

    call_command("purge_idempotency_keys", stdout=io.StringIO(), stderr=io.StringIO())

    assert found == before - set(ProcessedEvent.objects.all())
    assert {each.event_id for each in found} == {
        "dropped-old",
        "failed-old",
        "ignored-old",
        "processed-old",
        "reopened-old",
    }


@pytest.fixture
def _events() -> None:
    event("inline", failed=True)
    event("due", due=True)
    event("later", due=True, next_attempt_at=AHEAD)
    event("again", due=True, state="failed")
    event("processed")
    # Of one object only the first that is not done.
    event("a-done", is_ordered=True, object_key="a", received_at=Now() - 3 * HOUR)
    event(
        "a-1", due=True, is_ordered=True, object_key="a", received_at=Now() - 2 * HOUR
    )
    event("a-2", due=True, is_ordered=True, object_key="a")
    # The first waits for its next attempt, and the second for the first.
    long_ago = Now() - 2 * HOUR
    event(
        "b-1",
        due=True,
        is_ordered=True,
        object_key="b",
        received_at=long_ago,
        next_attempt_at=AHEAD,
    )
    event("b-2", due=True, is_ordered=True, object_key="b")
    # Another object, on each database.
    event("B-1", due=True, is_ordered=True, object_key="B")
    event("other-b", due=True, is_ordered=True, object_key="b", endpoint="refunds")


@pytest.mark.usefixtures("_events")
def test_due_events_are_those_that_a_worker_would_take() -> None:
    found = set(ProcessedEvent.objects.due())
    taken: set[uuid.UUID | None] = set()
    with transaction.atomic():
        while (found_now := due.look(using="default", free_after=HOUR)) != due.Look():
            taken.add(found_now.begun)

    assert {each.pk for each in found} == taken - {None}
    assert {each.event_id for each in found} == {
        "due",
        "again",
        "a-1",
        "B-1",
        "other-b",
    }


def test_events_of_one_instant_are_due_in_the_order_of_their_ids() -> None:
    instant = timezone.now()
    for number, name in enumerate(("first", "second")):
        row_id = uuid.UUID(int=number)
        event(
            name,
            due=True,
            id=row_id,
            is_ordered=True,
            object_key="a",
            received_at=instant,
        )

    assert [each.event_id for each in ProcessedEvent.objects.due()] == ["first"]


def block(language: str, mark: str) -> str:
    """The one block of the page in which this stands."""
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (found,) = [each for each in blocks if mark in each]
    return str(found)


def executed(mark: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(block("python", mark), namespace)  # noqa: S102 - our own page
    return namespace


@pytest.mark.usefixtures("_records", "_events")
def test_page_counts_what_it_says() -> None:
    namespace = executed("idempotency_gauges")

    assert namespace["idempotency_gauges"]() == {
        "held": 3,
        "in_flight": 3,
        "expired": 3,
        "dead": 0,
        "due": 5,
    }


def test_line_for_cron_fails_if_somebody_is_needed() -> None:
    (line,) = re.findall(r"manage\.py (.*) >/dev/null", block("text", "MAILTO"))
    call_command(*shlex.split(line), stdout=io.StringIO())
    record("held", held=True)

    with pytest.raises(CommandError, match="held: 1 operation is held"):
        call_command(*shlex.split(line), stdout=io.StringIO())


@pytest.mark.parametrize("age", [timedelta(0), timedelta(minutes=10), None])
def test_probe_of_the_page_looks_at_the_age(
    age: timedelta | None, tmp_path: Path
) -> None:
    probe = yaml.safe_load(block("yaml", "livenessProbe"))
    file = tmp_path / "worker"
    if age is not None:
        file.write_text("at work")
        then = (timezone.now() - age).timestamp()
        os.utime(file, (then, then))
    *shell, command = probe["livenessProbe"]["exec"]["command"]
    done = subprocess.run(  # noqa: S603 - our own page
        [*shell, command.replace(probe["command"][-1], str(file))]
    )

    assert (done.returncode == 0) is (age == timedelta(0))


def test_worker_of_the_page_has_an_address_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports: list[int] = []
    monkeypatch.setattr(prometheus_client, "start_http_server", ports.append)
    for arguments in (["manage.py", "migrate"], ["manage.py", "process_events"]):
        monkeypatch.setattr(sys, "argv", arguments)
        executed("start_http_server")

    assert ports == [9300]


def test_sentry_gets_what_is_held_and_no_key() -> None:
    sent: list[Any] = []
    # No `init()`, whose integrations would change Django for all tests that follow.
    client = sentry_sdk.Client(
        dsn="https://key@sentry.example/1",
        before_send=lambda event, hint: sent.append(event),  # and nothing is sent
        default_integrations=False,
    )
    held = replace(OPERATION, key="secret-key", route="pay/")
    with sentry_sdk.new_scope() as scope:
        scope.set_client(client)
        receiver = executed("sentry_sdk")["tell_sentry"]
        signals.held.send(IdempotencyRecord, operation=held)
        signals.held.disconnect(receiver)
    (event,) = sent

    assert event["message"] == "Held: POST /pay/"
    assert event["tags"]["idempotency.reference"] == held.reference
    assert "secret-key" not in str(event)


@pytest.mark.usefixtures("_records", "_events")
def test_gauges_say_how_much_waits_and_since_when() -> None:
    for name in ("dead-1", "dead-2"):
        event(name, dead=True)
    event("processed-old", expired=True)

    now = gauges()

    records, events = IdempotencyRecord.objects, ProcessedEvent.objects
    assert now == Gauges(
        held=3,
        oldest_held_since=records.held().aggregate(t=Min("held_since"))["t"],
        dead=2,
        oldest_dead_since=events.dead().aggregate(t=Min("dead_since"))["t"],
        due=5,
        oldest_due_at=events.due().aggregate(t=Min("next_attempt_at"))["t"],
        expired=4,
        oldest_expired_at=min(
            records.expired().aggregate(t=Min("expires_at"))["t"],
            events.expired().aggregate(t=Min("expires_at"))["t"],
        ),
        in_flight=3,
        oldest_in_flight_since=records.in_flight().aggregate(t=Min("created_at"))["t"],
    )


def test_gauges_of_empty_tables_are_zero() -> None:
    assert set(asdict(gauges()).values()) == {0, None}


@pytest.mark.usefixtures("_records", "_events")
def test_gauges_stop_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "MOST", 2)

    now = gauges()

    assert (now.held, now.due, now.expired) == (2, 2, 2)


def test_longest_call_is_found_behind_whatever_came_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "MOST", 2)
    begun = timezone.now() - 20 * HOUR
    user = UserFactory.create()
    for number, columns in enumerate(({"held": True}, {"in_flight": True}, {}, {})):
        live = {"lease_expires_at": AHEAD} if number < 2 else {}
        made = IdempotencyRecordFactory.create(
            user=user, expires_at=AHEAD + number * HOUR, **columns, **live
        )
        IdempotencyRecord.objects.filter(pk=made.pk).update(
            created_at=begun + number * HOUR
        )

    assert (gauges().in_flight, gauges().oldest_in_flight_since) == (1, begun)


@pytest.mark.one_server
@pytest.mark.postgresql
def test_gauges_are_read_by_index_only() -> None:
    with CaptureQueriesContext(connection) as captured:
        gauges()

    with connection.cursor() as cursor:
        # Where there is no index, it is read all the same.
        for way in ("seqscan", "bitmapscan", "sort"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
        for query in captured.captured_queries:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan" not in plan, plan
            assert "Sort" not in plan, plan


@pytest.mark.parametrize("model", [IdempotencyRecord, ProcessedEvent])
def test_package_itself_asks_by_a_plain_manager(model: Any) -> None:
    assert type(model._base_manager) is Manager
    assert not model.objects.use_in_migrations
