"""What the doctor says of good databases, and of each kind that is broken."""

import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader
from django.db.models.functions import Now
from django.test import override_settings
from pytest_django import DjangoDbBlocker

from django_idempotency.management import trials
from django_idempotency.management.examining import routing
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.store import records
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.support import pgbouncer
from tests.support.cases import cases
from tests.support.client import new_key, post
from tests.support.databases import Routes, alias, read_only
from tests.support.threads import TIMEOUT, crew, start
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "file"])

RECORDS = IdempotencyRecord._meta.db_table
TRIALS = {"race", "wait", "take-over"}
ANN = UserFactory.build(pk=7)
OURS = frozenset({"django_idempotency"})

SQLITE = {"ENGINE": "django.db.backends.sqlite3", "HOST": "", "PORT": ""}


@pytest.fixture(autouse=True, scope="module")
def _others(
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
) -> Iterator[None]:
    """Databases that are known before the first test begins: a file, and none."""
    folder = tmp_path_factory.mktemp("doctor")
    with (
        django_db_blocker.unblock(),
        alias("file", **SQLITE, NAME=folder / "shop.sqlite3", OPTIONS={}),
        alias("nowhere", **SQLITE, NAME=folder / "no" / "such", OPTIONS={}),
    ):
        call_command("migrate", database="file", verbosity=0)
        yield


def examined(*arguments: str) -> dict[str, dict[str, str]]:
    """The findings by name, and the exit code as that of ``exit``."""
    out, code = io.StringIO(), 0
    try:
        call_command("idempotency_doctor", "--format", "json", *arguments, stdout=out)
    except CommandError as error:
        code = error.returncode
    found = {each["name"]: each for each in json.loads(out.getvalue())}
    failed = [each for each in found.values() if each["verdict"] == "fails"]
    assert code == bool(failed)
    assert all(each["remedy"] for each in found.values() if each["verdict"] != "ok")
    return found


def verdicts(found: dict[str, dict[str, str]]) -> dict[str, str]:
    return {name: each["verdict"] for name, each in found.items()}


def test_promise_holds_on_the_database_of_the_tests() -> None:
    found = examined()

    assert {name for name, each in found.items() if each["verdict"] == "fails"} == set()
    assert {"connection", "migrations", "grants", "router", "purge"} <= found.keys()
    assert [found[name]["verdict"] for name in TRIALS] == ["ok"] * 3
    assert found["race"]["told"].endswith("one ran, one got its answer")


@pytest.mark.postgresql
def test_findings_are_lines_with_a_verdict_and_a_remedy() -> None:
    out = io.StringIO()
    call_command("idempotency_doctor", stdout=out)
    lines = out.getvalue().splitlines()

    assert lines[0].startswith("ok       connection: PostgreSQL answers")
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "→"}


# It leaves everything as it was


def rows() -> list[Any]:
    models: list[Any] = [IdempotencyRecord, ProcessedEvent, OperationLink]
    return [list(each._base_manager.order_by("pk").values()) for each in models]


def test_rows_of_others_are_left_alone_and_its_own_are_removed() -> None:
    for made in ({}, {"held": True}, {"in_flight": True}, {"expired": True}):
        IdempotencyRecordFactory.create(user=ANN, **made)
    ProcessedEventFactory.create(dead=True)
    before = rows()

    examined()

    assert rows() == before


@pytest.mark.postgresql
@pytest.mark.urls("tests.concurrency.shop")
def test_traffic_goes_on_meanwhile_and_no_trial_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    is_over = threading.Event()

    def shop() -> int:
        count = 0
        while not is_over.is_set():
            key = new_key()
            words = [post("/protected/", key).word for _ in range(2)]
            assert words == ["201", "201 replayed"]
            count += 1
        return count

    with caplog.at_level("INFO", "django_idempotency"), crew() as threads:
        customers = [start(threads, shop) for _ in range(2)]
        try:
            found = examined()
        finally:
            is_over.set()
        orders = sum(each.result(TIMEOUT) for each in customers)

    assert [found[name]["verdict"] for name in TRIALS] == ["ok"] * 3
    assert Order.objects.count() == orders == IdempotencyRecord.objects.count()
    assert not [line for line in caplog.messages if "idempotency_doctor" in line]


# What is broken is said, with a remedy


@contextmanager
def role(grants: str) -> Iterator[None]:
    """Be somebody who may do only this with the tables."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE clerk")
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO clerk")
        cursor.execute(f"GRANT {grants} ON {RECORDS} TO clerk")
        cursor.execute("SET ROLE clerk")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")
            cursor.execute("DROP OWNED BY clerk")
            cursor.execute("DROP ROLE clerk")


((_, NEWEST),) = MigrationLoader(None).graph.leaf_nodes("django_idempotency")


@contextmanager
def unmigrated() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE name = %s", [NEWEST])
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES"
                " ('django_idempotency', %s, now())",
                [NEWEST],
            )


@contextmanager
def another_clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr("time.time", lambda: 0.0)
        yield


@contextmanager
def rows_that_are_not_purged() -> Iterator[None]:
    IdempotencyRecordFactory.create(user=ANN, expires_at=Now() - timedelta(days=3))
    yield


@contextmanager
def moving_updates() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX moving ON {RECORDS} (replays)")
        # Else the updates of all other tests count as well.
        cursor.execute(
            f"SELECT pg_stat_reset_single_table_counters('{RECORDS}'::regclass)"
        )
    try:
        IdempotencyRecordFactory.create(user=ANN)
        for number in range(1100):
            IdempotencyRecord.objects.update(replays=number)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_force_next_flush()")
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX moving")


@pytest.mark.postgresql
@pytest.mark.direct
@cases(
    "broken, name, verdict, remedy",
    {
        "no grants": (role("SELECT"), "grants", "fails", "GRANT SELECT, INSERT"),
        "no purge": (
            role("SELECT, INSERT, UPDATE"),
            "grants",
            "fails",
            "GRANT SELECT, INSERT",
        ),
        "read-only": (read_only(), "grants", "fails", "takes writes"),
        "not migrated": (unmigrated(), "migrations", "fails", "migrate django_idem"),
        "clock": (another_clock(), "clock", "warning", "NTP"),
        "no cron": (rows_that_are_not_purged(), "purge", "warning", "purge_idem"),
        "own index": (moving_updates(), "updates", "warning", "fillfactor = 60"),
        "a check": (
            override_settings(IDEMPOTENCY_WAIT=5),
            "check E003",
            "fails",
            "timedelta(seconds=5)",
        ),
    },
)
def test_what_is_broken_has_a_verdict_and_a_remedy(
    broken: AbstractContextManager[None], name: str, verdict: str, remedy: str
) -> None:
    with broken:
        found = examined()

    assert found[name]["verdict"] == verdict
    assert remedy in found[name]["remedy"]
    assert {each for each, said in verdicts(found).items() if said == "fails"} <= {name}


@pytest.mark.postgresql
@pytest.mark.direct
def test_nothing_is_tried_where_a_migration_is_missing() -> None:
    with unmigrated():
        found = examined()

    assert not found.keys() & TRIALS
    assert NEWEST in found["migrations"]["told"]


def test_database_that_is_not_there_is_one_finding() -> None:
    connections["file"].close()
    with pytest.MonkeyPatch.context() as changed:
        changed.setitem(connections["file"].settings_dict, "NAME", "/no/such/file")
        found = examined_at("file")

    assert verdicts(found) == {"connection": "fails"}


def examined_at(name: str) -> dict[str, dict[str, str]]:
    """Of a database whose alias was not there when Django began."""
    with Routes.sending(read=name, write=name, apps=OURS):
        return examined()


def test_replica_is_where_nothing_is_read_that_is_decided() -> None:
    """Whatever it lacks: here nothing may be asked of it."""
    with Routes.sending(read="nowhere", write="default", apps=OURS):
        found = examined()

    assert found["router"]["verdict"] == "warning"
    assert "from 'nowhere'" in found["router"]["told"]
    assert [found[name]["verdict"] for name in TRIALS] == ["ok"] * 3


def test_router_that_shares_writes_out_is_no_promise() -> None:
    class Sharing(Routes):
        turn = 0

        def db_for_write(self, model: Any, **hints: Any) -> str:
            Sharing.turn += 1
            return ("default", "other")[Sharing.turn % 2]

    with override_settings(DATABASE_ROUTERS=[Sharing()]):
        (finding,) = routing()

    assert finding.verdict == "fails"


@pytest.mark.parametrize("mode", ["DEFERRED", "IMMEDIATE"])
def test_sqlite_in_deferred_mode_is_warned_of(mode: str) -> None:
    connections["file"].close()
    with pytest.MonkeyPatch.context() as changed:
        options = {"transaction_mode": mode}
        changed.setitem(connections["file"].settings_dict, "OPTIONS", options)
        found = examined_at("file")
    connections["file"].close()

    assert ("check W012" in found) is (mode == "DEFERRED")
    assert [found[name]["verdict"] for name in TRIALS] == ["ok"] * 3


# Behind a pooler


@pytest.fixture
def _behind_pgbouncer() -> Iterator[None]:
    program = os.environ.get(pgbouncer.VARIABLE, "/usr/sbin/pgbouncer")
    with connection.cursor() as cursor:
        cursor.execute("SELECT inet_server_port()")
        server_port = cursor.fetchone()[0]
    with (
        pgbouncer.pgbouncer(program, server_port=server_port) as port,
        pytest.MonkeyPatch.context() as changed,
    ):
        connection.close()
        changed.setitem(connection.settings_dict, "PORT", port)
        yield
        connection.close()


@pytest.mark.behind_pgbouncer
@pytest.mark.usefixtures("_behind_pgbouncer")
@pytest.mark.parametrize("is_set_up", [True, False], ids=["as documented", "default"])
def test_pooler_in_transaction_mode_is_noticed(is_set_up: bool) -> None:
    with pytest.MonkeyPatch.context() as changed:
        for name, value in pgbouncer.DATABASE_SETTINGS.items():
            changed.setitem(connection.settings_dict, name, value if is_set_up else {})
        found = examined()

    assert "transaction mode" in found["pooling"]["told"]
    assert found["pooling"]["verdict"] == ("ok" if is_set_up else "warning")
    assert [found[name]["verdict"] for name in TRIALS] == ["ok"] * 3


# A doctor who can't find anything is none


def twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is not kept, so that whoever waits runs again."""

    def release(claim: Any, answer: Any) -> None:
        records.release(claim, None)

    monkeypatch.setattr(records, "keep", release)


def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """No claim waits as long as it may."""
    monkeypatch.setattr(trials, "LONG", timedelta(0))


def for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy waits for longer than it may."""
    monkeypatch.setattr(trials, "SHORT", timedelta(seconds=4))
    monkeypatch.setattr(trials, "SLACK", -timedelta(seconds=1))


@pytest.mark.postgresql
@cases(
    "sabotage, failing",
    {
        "twice": (twice, {"race", "take-over"}),
        "never": (never, {"race", "take-over"}),
        "for ever": (for_ever, {"wait"}),
    },
)
def test_promise_that_does_not_hold_is_found_out(
    sabotage: Callable[[pytest.MonkeyPatch], None],
    failing: set[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sabotage(monkeypatch)

    found = examined()

    assert {name for name in TRIALS if found[name]["verdict"] == "fails"} == failing
    assert not IdempotencyRecord.objects.exists()
    assert connections["default"].is_usable()
