"""Pages over tables of any size: what they ask, and how many rows that reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_idempotency.core.links import Link, LinkKind
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.store import links
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory

BASE = "/admin/django_idempotency/"
RECORDS, EVENTS = f"{BASE}idempotencyrecord/", f"{BASE}processedevent/"

MOST_READ = 11_000
"""Rows that one statement may read: those that are counted, and some."""

_NEW: dict[str, str] = {
    "id": "gen_random_uuid()",
    "key": "gen_random_uuid()::text",
    "event_id": "'evt_' || n",
    "object_key": "'ch_' || n",
    "row_id": "gen_random_uuid()",
    "value": "'pi_' || n",
    "expires_at": "now() + interval '2 days' + n * interval '1 microsecond'",
}


def empty() -> None:
    """Begin with new files: what dead rows leave in old ones changes the plans."""
    tables = (IdempotencyRecord, ProcessedEvent, OperationLink)
    names = ", ".join(each._meta.db_table for each in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {names}")


def few() -> dict[str, str]:
    """Make some rows of each state, and return what pages there are about them."""
    ada = UserFactory.create(username="ada")
    record, event = IdempotencyRecordFactory.create, ProcessedEventFactory.create
    now = timezone.now()
    held = record(user=ada, held=True, held_since=now, key="k-held")
    done = record(user=ada, key="k-done")
    for state in ({"released": True}, {"in_flight": True}):
        record(user=ada, **state)
    his = Link(kind=LinkKind.OBJECT, value=f"auth.user:{ada.pk}", amount="1.00 EUR")
    links.add([his], done.pk, retention=timedelta(days=1), using="default")
    links.add(
        [
            his,
            Link(kind=LinkKind.REFERENCE, value="pi_held"),
        ],
        held.pk,
        retention=timedelta(days=1),
        using="default",
    )
    dead = event(dead=True, dead_since=now, event_id="evt_dead", object_key="pi_held")
    for each in ({"due": True}, {"failed": True}, {"ignored": True}, {}):
        event(**each)
    return dict(_pages(held, done, dead))


def _pages(held: Any, done: Any, dead: Any) -> Iterator[tuple[str, str]]:
    yield from {
        "front": BASE,
        "front of a month": f"{BASE}?span=30d",
        "health": "/health/",
        "find": f"{RECORDS}find/?q=ada",
        "find nothing": f"{RECORDS}find/?q=nothing",
        "second page": f"{RECORDS}?p=2",
        "expired": f"{RECORDS}?expires_at__lt=2026-01-01+00:00:00%2B00:00",
        "method": f"{RECORDS}?method=DELETE",
    }.items()
    for name, url, states in (
        ("records", RECORDS, ("held", "kept", "released", "in_flight")),
        ("events", EVENTS, ("dead", "processed", "failed", "received", "ignored")),
    ):
        yield name, url
        for state in states:
            yield f"{name} {state}", f"{url}?state__exact={state}"
        for term in (
            *("k-held", held.reference, "pi_held", "evt_dead", "ada", "nothing"),
            *(str(held.pk), f"auth.user:{held.pk}"),
        ):
            yield f"{name} by {term[:8]}", f"{url}?q={term}"
    for name, row in (("held", held), ("done", done)):
        yield f"story of {name}", f"{RECORDS}{row.pk}/change/"
    yield "story of dead", f"{EVENTS}{dead.pk}/change/"
    for decision in ("applied", "not-applied"):
        yield decision, f"{RECORDS}{held.pk}/decide/{decision}/"
    yield "run again", f"{EVENTS}{dead.pk}/decide/run-again/"


def fill(rows: int) -> None:
    """Add so many rows that are done to each table, by the database alone."""
    ids = {
        model: model._base_manager.filter(**of).values_list("pk", flat=True)[0]
        for model, of in (
            (IdempotencyRecord, {"state": "kept"}),
            (ProcessedEvent, {"state": "processed"}),
            (OperationLink, {"kind": "reference"}),
        )
    }
    for model, pk in ids.items():
        table = model._meta.db_table
        names = [str(field.column) for field in model._meta.concrete_fields]
        with connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(names)})"  # noqa: S608
                f" SELECT {', '.join(_NEW.get(name, name) for name in names)}"
                f" FROM (SELECT * FROM {table} WHERE id = %s) AS one,"
                " generate_series(1, %s) AS n",
                [pk, rows],
            )
            cursor.execute(f"ANALYZE {table}")


def asked(client: Client, url: str) -> list[str]:
    """Return the statements of a page, less those about sessions and users."""
    with CaptureQueriesContext(connection) as captured:
        response = client.get(url, follow=False)
    assert response.status_code == 200, (url, response.status_code)
    return [
        each["sql"]
        for each in captured.captured_queries
        if "django_idempotency" in each["sql"] and each["sql"].startswith("SELECT")
    ]


def rows_read(sql: str) -> int:
    """Return how many rows the database looks at for this statement."""
    with connection.cursor() as cursor:
        # Several processes might read more rows in less time.
        cursor.execute("SET max_parallel_workers_per_gather = 0")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}")
        plan = cursor.fetchone()[0]
    return _rows_of((plan if isinstance(plan, list) else json.loads(plan))[0]["Plan"])


def _rows_of(node: dict[str, Any]) -> int:
    inner = sum(_rows_of(each) for each in node.get("Plans", ()))
    if "Scan" not in node["Node Type"] or "Subquery" in node["Node Type"]:
        return inner
    names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
    each = sum(node.get(name, 0) for name in names)
    return inner + int(each * node["Actual Loops"])
