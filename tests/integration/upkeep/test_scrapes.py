"""A scrape answers, whatever the database does, and says only what is so."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection, transaction
from django.db.models.functions import Now
from django.test import Client
from django.urls import include, path
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry, generate_latest

from django_idempotency.contrib.opentelemetry.metrics import OpenTelemetryMeter
from django_idempotency.contrib.prometheus import metrics
from django_idempotency.contrib.prometheus.metrics import WaitingCollector, name_of
from django_idempotency.engine import measuring
from django_idempotency.engine.measuring import READ, Waits
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.support.cases import cases
from tests.support.programs import environment
from tests.support.threads import until

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db(transaction=True)]

urlpatterns = [path("metrics/", include("django_idempotency.contrib.prometheus.urls"))]
TOKEN = "a-token-of-the-scraper"  # noqa: S105 - of these tests
AGO = Now() - timedelta(minutes=5)
OURS = "idempotency_"


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FRESH_SECONDS", 0.0)


@pytest.fixture
def _rows() -> None:
    for number in range(2):
        IdempotencyRecordFactory.create(
            user=UserFactory.build(pk=7), key=f"k{number}", held=True, held_since=AGO
        )
    ProcessedEventFactory.create(event_id="dead", dead=True, dead_since=AGO)
    for number in range(3):
        ProcessedEventFactory.create(event_id=f"due-{number}", due=True)


@pytest.mark.usefixtures("_rows")
def test_gauges_are_what_waits_and_since_when() -> None:
    found = Waits().read()

    assert {*found} == {each.name for each in READ}
    assert [found[each] for each in ("database_up", "held", "dead", "due")] == [
        *(1, 2, 1, 3)
    ]
    assert found["held_oldest"] == pytest.approx(300, abs=60)
    assert found["dead_oldest"] == pytest.approx(300, abs=60)
    assert 0 <= found["due_oldest"] < 60


def test_where_nothing_waits_nothing_has_waited() -> None:
    found = Waits().read()

    assert found == dict.fromkeys(found, 0.0) | {"database_up": 1.0}


@pytest.fixture
def _away(monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections find no database."""
    monkeypatch.setitem(connection.settings_dict, "NAME", "/nowhere/at_all")


@pytest.mark.usefixtures("_away")
def test_database_that_is_away_is_said_and_nothing_else() -> None:
    assert Waits().read() == {"database_up": 0.0}


@pytest.mark.postgresql
def test_database_that_hangs_delays_no_scrape_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measuring, "PATIENCE_SECONDS", 0.2)
    waits, others = Waits(), set(threading.enumerate())
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE django_idempotency_idempotencyrecord")
        for _ in range(3):
            assert waits.read() == {"database_up": 0.0}
        assert len(set(threading.enumerate()) - others) == 1

    until(lambda: waits.read().get("held") == 0.0)


def test_numbers_are_shared_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "FRESH_SECONDS", 600.0)
    waits = Waits()

    before = waits.read()
    ProcessedEventFactory.create(dead=True)

    assert waits.read() == before


def test_end_of_the_interpreter_is_no_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last numbers are exported when no thread can be started any more."""

    def refuse(thread: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert Waits().read() == {}


def test_registering_the_gauges_asks_no_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Waits, "read", lambda self: 1 / 0)

    CollectorRegistry(auto_describe=True).register(WaitingCollector())


@pytest.mark.usefixtures("_rows")
def test_both_systems_get_the_same_gauges() -> None:
    reader, registry = InMemoryMetricReader(), CollectorRegistry()
    registry.register(WaitingCollector())
    OpenTelemetryMeter(MeterProvider([reader]).get_meter("tests"))
    data: Any = reader.get_metrics_data()
    observed = {
        metric.name: metric.data.data_points[0].value
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    scraped = {
        sample.name: sample.value
        for family in registry.collect()
        for sample in family.samples
    }

    assert len(scraped) == len(READ)
    for each in READ:
        told = observed[f"idempotency.{each.name}"]
        assert scraped[name_of(each)] == pytest.approx(told, abs=60)


@pytest.mark.usefixtures("_away")
def test_gauges_that_are_not_known_are_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # PgBouncer lets a connection wait that can't be had: once, and not for each gauge.
    monkeypatch.setattr(measuring, "FRESH_SECONDS", 600.0)
    reader, registry = InMemoryMetricReader(), CollectorRegistry()
    registry.register(WaitingCollector())
    OpenTelemetryMeter(MeterProvider([reader]).get_meter("tests"))
    data: Any = reader.get_metrics_data()
    (only,) = data.resource_metrics[0].scope_metrics[0].metrics

    assert only.name == "idempotency.database_up"
    lines = generate_latest(registry).decode().splitlines()
    assert [each for each in lines if each[0] != "#"] == ["idempotency_database_up 0.0"]


# The address


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """What stands in for the registry of the whole process."""
    own = CollectorRegistry()
    own.register(WaitingCollector())
    monkeypatch.setattr(metrics, "REGISTRY", own)
    return own


def scrape(token: str | None = TOKEN, client: Client | None = None) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return (client or Client()).get("/metrics/", headers=headers)


@pytest.mark.usefixtures("registry")
@cases("token", {"none": None, "another": "of-another"})
def test_strangers_get_no_numbers(token: str | None, settings: Any) -> None:
    settings.IDEMPOTENCY_HEALTH_TOKEN = TOKEN
    answer = scrape(token)

    assert answer.status_code == 403
    assert OURS not in answer.content.decode()


@pytest.mark.usefixtures("registry")
def test_staff_that_may_view_both_gets_them() -> None:
    ann = User.objects.create_user("ann", is_staff=True)
    names = ("view_idempotencyrecord", "view_processedevent")
    ann.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(ann)

    assert "idempotency_held 0.0" in scrape(None, client).content.decode()


@pytest.mark.usefixtures("registry", "_away")
def test_scrape_answers_without_a_database(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each view would begin with a transaction."""
    settings.IDEMPOTENCY_HEALTH_TOKEN = TOKEN
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    connection.close()
    answer = scrape()

    assert answer.status_code == 200
    assert "idempotency_database_up 0.0" in answer.content.decode()
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.usefixtures("registry")
def test_scrape_of_several_processes_has_the_gauges_once(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings.IDEMPOTENCY_HEALTH_TOKEN = TOKEN
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    assert scrape().content.decode().count("\nidempotency_held ") == 1


# The apps


def program(text: str, **variables: str) -> str:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", text],
        env=environment(**variables) if connection.vendor == "postgresql" else None,
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


APPS = (
    "django_idempotency.contrib.prometheus",
    "django_idempotency.contrib.opentelemetry",
)


@pytest.mark.postgresql
def test_line_in_installed_apps_is_all_that_it_takes() -> None:
    told = program(
        f"""
import django
from django.conf import settings
settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, *{APPS}]
django.setup()
from opentelemetry.metrics import set_meter_provider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
reader = InMemoryMetricReader()
set_meter_provider(MeterProvider([reader]))
from django_idempotency.engine.reporting import report
from tests.support.values import OPERATION
report("kept", OPERATION)
from prometheus_client import generate_latest
print(generate_latest().decode())
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    print(metric.name, metric.data.data_points[0].attributes)
"""
    )

    labels = 'endpoint="POST (no route)",outcome="kept"'
    assert f"idempotency_decisions_total{{{labels}}} 1.0" in told
    assert "idempotency_database_up 1.0" in told
    attributes = {
        "idempotency.endpoint": "POST (no route)",
        "idempotency.outcome": "kept",
    }
    assert f"idempotency.decisions {attributes}" in told


@pytest.mark.postgresql
@cases(
    "app, missing, extra",
    {
        "prometheus": (APPS[0], "prometheus_client", "prometheus"),
        "opentelemetry": (APPS[1], "opentelemetry", "opentelemetry"),
    },
)
def test_package_works_without_them_and_their_app_names_the_extra(
    app: str, missing: str, extra: str
) -> None:
    told = program(
        f"""
import sys
sys.modules[{missing!r}] = None
import django, importlib, pkgutil
django.setup()
import django_idempotency
from django_idempotency.engine.reporting import report
from tests.support.values import OPERATION
report("kept", OPERATION)
for each in pkgutil.walk_packages(django_idempotency.__path__, "django_idempotency."):
    if ".contrib." not in each.name and ".migrations." not in each.name:
        importlib.import_module(each.name)
try:
    importlib.import_module({app!r})
except ImportError as error:
    print(error)
"""
    )

    assert f"pip install django-idempotency[{extra}]" in told
