"""What a real Prometheus would find at a real server, and what is drawn of it.

With `PROMETHEUS=/usr/bin/prometheus`, Debian's Prometheus itself scrapes and evaluates.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from django.db.models.functions import Now
from prometheus_client.parser import text_string_to_metric_families

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from tests.concurrency.measured_settings import IDEMPOTENCY_HEALTH_TOKEN
from tests.support.deliveries import Sent, stripe
from tests.support.programs import environment
from tests.support.servers.gunicorn import gunicorn
from tests.support.threads import TIMEOUT

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db]

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"
DASHBOARD = json.loads((HOWTO / "grafana.json").read_text(encoding="utf-8"))
PAGE = (HOWTO / "monitor.md").read_text(encoding="utf-8")
TOKEN = {"Authorization": f"Bearer {IDEMPOTENCY_HEALTH_TOKEN}"}

PAY, CALL = "POST /pay/<int:number>/", "POST /call/"
INLINE, INBOX = "measured-inline", "measured-inbox"


class Shop:
    """Servers that take turns, and a worker that shares their numbers."""

    def __init__(
        self, clients: Sequence[httpx.Client], variables: Mapping[str, str]
    ) -> None:
        self._clients = itertools.cycle(clients)
        self.variables = variables

    @property
    def client(self) -> httpx.Client:
        """The next server's."""
        return next(self._clients)

    def post(self, path: str, key: str | None, body: str) -> int:
        headers = {"Idempotency-Key": key} if key else {}
        sent = self.client.post(path, content=body.encode(), headers=headers)
        return sent.status_code

    def deliver(self, path: str, sent: Sent) -> int:
        return self.client.post(
            path, content=sent.body, headers=dict(sent.headers)
        ).status_code

    def scrape(self) -> str:
        answer = self.client.get("/metrics/", headers=TOKEN)
        assert answer.status_code == 200
        return answer.text

    def work_off(self) -> None:
        subprocess.run(
            [sys.executable, "manage.py", "process_events", "--until-empty"],
            cwd=HOWTO.parents[1],
            env=dict(self.variables),
            check=True,
            capture_output=True,
            timeout=TIMEOUT,
        )

    def day(self) -> list[int]:
        """Let each thing happen that is measured, and return the answers."""
        one, other, lost, name = (str(uuid.uuid4()) for _ in range(4))
        statuses = [
            self.post("/pay/1/", one, "201"),
            *(self.post("/pay/1/", one, "201") for _ in range(20)),
            self.post("/pay/1/", one, "202"),
            self.post("/pay/2/", other, "503"),
            self.post("/pay/2/", None, "201"),
            self.post("/call/", other, ""),
        ]
        of_call = IdempotencyRecord.objects.filter(path="/call/", key=other)
        for ends_at in (Now() + timedelta(minutes=1), Now() - timedelta(minutes=1)):
            of_call.update(state="in_flight", lease_expires_at=ends_at)
            statuses.append(self.post("/call/", other, ""))
        statuses += [self.post("/call/", lost, "lost") for _ in range(2)]
        for event, live in (
            *(("done", True), ("done", True), ("not-now", True), ("never", True)),
            ("done", False),
        ):
            sent = stripe(f"{name}-{event}", type=event, livemode=live)
            statuses.append(self.deliver("/inline/", sent))
        statuses.append(self.deliver("/inbox/", stripe(f"{name}-1", type="done")))
        self.work_off()
        statuses.append(self.deliver("/inbox/", stripe(f"{name}-2", type="done")))
        return statuses


ANSWERS = [
    *(201, *[201] * 20, 422, 503, 400),
    *(201, 409, 201, 500, 409),
    *(200, 200, 500, 200, 200),
    *(200, 200),
]


@contextmanager
def shop(folder: Path, blocker: Any) -> Iterator[Shop]:
    with blocker.unblock():
        variables = environment(
            DJANGO_SETTINGS_MODULE="tests.concurrency.measured_settings",
            PROMETHEUS_MULTIPROC_DIR=str(folder),
        )
        try:
            # Which of its processes answers is up to the system, and could be one.
            with (
                gunicorn(workers=2, threads=2, **variables) as one,
                gunicorn(workers=1, threads=2, **variables) as other,
                httpx.Client(base_url=one, trust_env=False) as to_one,
                httpx.Client(base_url=other, trust_env=False) as to_other,
            ):
                yield Shop([to_one, to_other], variables)
        finally:
            IdempotencyRecord.objects.all().delete()
            ProcessedEvent.objects.all().delete()


Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


@pytest.fixture(scope="module")
def scraped(
    tmp_path_factory: pytest.TempPathFactory,
    django_db_setup: None,
    django_db_blocker: Any,
) -> Samples:
    """By the name of the sample and its labels, after a day in the shop."""
    folder = tmp_path_factory.mktemp("metrics")
    with shop(folder, django_db_blocker) as ours:
        assert ours.day() == ANSWERS
        text = ours.scrape()
    # The worker, and both servers.
    assert len([*folder.glob("counter_*.db")]) > 2
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            samples.setdefault(sample.name, {})[labels] = sample.value
    return samples


def numbers(scraped: Samples, name: str) -> dict[tuple[str, ...], float]:
    """By the values of the labels, in the order of their names."""
    return {
        tuple(value for _name, value in sorted(labels)): number
        for labels, number in scraped[name].items()
    }


def test_all_processes_together_have_counted_what_happened(scraped: Samples) -> None:
    assert numbers(scraped, "idempotency_decisions_total") == {
        (PAY, "kept"): 1,
        (PAY, "replayed"): 20,
        (PAY, "mismatched"): 1,
        (PAY, "released"): 1,
        (CALL, "kept"): 2,
        (CALL, "in_flight"): 1,
        (CALL, "held"): 2,
    }
    assert numbers(scraped, "idempotency_events_total") == {
        (INLINE, "processed"): 1,
        (INLINE, "duplicate"): 1,
        (INLINE, "failed"): 1,
        (INLINE, "dead"): 1,
        (INLINE, "ignored"): 1,
        (INBOX, "processed"): 1,
    }
    for name, expected in (
        ("idempotency_unkeyed_total", {(PAY,): 1}),
        ("idempotency_takeovers_total", {(CALL,): 1}),
        ("idempotency_wait_seconds_count", {(PAY,): 21, (CALL,): 2}),
        ("idempotency_run_seconds_count", {(PAY,): 2, (CALL,): 3}),
        ("idempotency_event_wait_seconds_count", {(INLINE,): 1, (INBOX,): 1}),
        ("idempotency_event_lag_seconds_count", {(INLINE,): 1, (INBOX,): 1}),
        ("idempotency_held", {(): 1}),
        ("idempotency_dead", {(): 1}),
        ("idempotency_due", {(): 1}),
        ("idempotency_database_up", {(): 1}),
    ):
        assert numbers(scraped, name) == expected, name


# What is drawn of it


PANELS: dict[str, list[tuple[str, str]]] = {
    panel["title"]: [
        (target["expr"], target["legendFormat"]) for target in panel["targets"]
    ]
    for panel in DASHBOARD["panels"]
}
ALERTS: dict[str, str] = {
    rule["alert"]: rule["expr"]
    for block in re.findall(r"^```yaml\n(groups:.*?)^```", PAGE, re.M | re.S)
    for group in yaml.safe_load(block)["groups"]
    for rule in group["rules"]
}
NAME = re.compile(r"\bidempotency_\w+")
SELECTOR = re.compile(r"\b(idempotency_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)="([^"]*)"')
GROUPED = re.compile(r"\bby \(([^)]*)\)")
SHOWN = re.compile(r"\{\{(\w+)\}\}")


def faults(expression: str, legend: str, scraped: Samples) -> list[str]:
    """What the expression names that the scrape doesn't have."""
    names = set(NAME.findall(expression))
    found = [f"no metric {each}" for each in names - {*scraped}]
    known = [
        {label for labels in scraped.get(each, {}) for label, _value in labels}
        for each in names
    ]
    for name, matchers in SELECTOR.findall(expression):
        for matcher in MATCHER.findall(matchers):
            if not any(matcher in labels for labels in scraped.get(name, {})):
                found.append(f"nothing in {name} is {matcher}")
    grouped = {
        each.strip() for by in GROUPED.findall(expression) for each in by.split(",")
    }
    for labels in known:
        found += [f"no label {each}" for each in grouped - labels]
    found += [f"shows {each}" for each in {*SHOWN.findall(legend)} - grouped]
    return found if names else [*found, "names no metric"]


@pytest.mark.parametrize("title", PANELS)
def test_panel_draws_what_a_scrape_has(title: str, scraped: Samples) -> None:
    assert [faults(*each, scraped) for each in PANELS[title]] == [
        [] for _ in PANELS[title]
    ]


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_of_the_page_looks_at_what_a_scrape_has(
    alert: str, scraped: Samples
) -> None:
    assert faults(ALERTS[alert], "", scraped) == []


def test_every_metric_is_drawn(scraped: Samples) -> None:
    drawn = {
        re.sub(r"_bucket$", "", name)
        for targets in PANELS.values()
        for expression, _legend in targets
        for name in NAME.findall(expression)
    }
    measured = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for name in scraped
        if name.startswith("idempotency_") and not name.endswith("_created")
    }

    assert drawn == measured


@pytest.mark.parametrize(
    "expression",
    [
        "max(idempotency_helt)",
        'rate(idempotency_decisions_total{outcome="replay"}[1m])',
        "sum by (path) (idempotency_unkeyed_total)",
        "max(up)",
    ],
)
def test_panel_that_draws_nothing_is_noticed(expression: str, scraped: Samples) -> None:
    assert faults(expression, "", scraped) != []
    assert faults("max(idempotency_held)", "{{endpoint}}", scraped) != []


def test_dashboard_is_one_that_grafana_can_lay_out() -> None:
    panels = DASHBOARD["panels"]
    cells = Counter(
        (x, y)
        for panel in panels
        for x in range(
            panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"]
        )
        for y in range(
            panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"]
        )
    )

    assert max(cells.values()) == 1
    assert max(x for x, _y in cells) == 23
    assert len({panel["id"] for panel in panels}) == len(PANELS) == len(panels)
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource"}


# By hand


def _evaluated(address: str, expression: str) -> Any:
    query = expression.replace("$__rate_interval", "1m").replace("$__range", "5m")
    answer = httpx.get(
        f"{address}/api/v1/query", params={"query": query}, trust_env=False
    ).json()
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


if program := os.environ.get("PROMETHEUS"):

    @pytest.mark.django_db(transaction=True)
    def test_prometheus_itself_finds_something_for_each_panel(
        tmp_path: Path, django_db_blocker: Any
    ) -> None:
        (tmp_path / "files").mkdir()
        (tmp_path / "token").write_text(IDEMPOTENCY_HEALTH_TOKEN)
        with shop(tmp_path / "files", django_db_blocker) as ours:
            target = str(ours.client.base_url.netloc, "ascii")
            config = {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {
                        "job_name": "shop",
                        "metrics_path": "/metrics/",
                        "authorization": {"credentials_file": str(tmp_path / "token")},
                        "static_configs": [{"targets": [target]}],
                    }
                ],
            }
            (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
            address = "127.0.0.1:19090"
            process = subprocess.Popen(  # noqa: S603 - whoever runs this names it
                [
                    str(program),
                    f"--config.file={tmp_path / 'prometheus.yml'}",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stderr=subprocess.DEVNULL,
            )
            try:
                for _ in range(3):
                    assert ours.day() == ANSWERS
                    time.sleep(4)
                for targets in PANELS.values():
                    for expression, _legend in targets:
                        assert _evaluated(f"http://{address}", expression), expression
                for expression in ALERTS.values():
                    _evaluated(f"http://{address}", expression)
            finally:
                process.terminate()
                process.wait(TIMEOUT)
