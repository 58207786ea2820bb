"""*Done once*, the page that the app's section of the admin begins with."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils import timezone

from django_idempotency.admin.charts import HEIGHT, drawn, spans
from django_idempotency.models import HourlyCount, IdempotencyRecord, ProcessedEvent
from django_idempotency.store import hours
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.support.cases import cases
from tests.support.staff import colleague

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

urlpatterns = [path("admin/", admin.site.urls)]

FRONT = "/admin/django_idempotency/"
RECORDS, EVENTS = f"{FRONT}idempotencyrecord/", f"{FRONT}processedevent/"


def shown(client: Client, query: str = "") -> str:
    response = client.get(FRONT + query)
    assert response.status_code == 200
    text = response.content.decode().partition('<div class="idempotency-front">')[2]
    return unescape(re.sub(r"\s+", " ", text))


def tiles(page: str) -> list[list[str]]:
    """Number and detail of each."""
    found = re.findall(r"<strong>(.*?)</strong> <span[^>]*>(.*?)</span>", page)
    return [[re.sub("<.*?>", "", part) for part in each] for each in found]


def count(outcome: str, number: int, *, ago: int = 0, **more: Any) -> None:
    hour = int(timezone.now().timestamp()) // 3600 - ago
    tally = hours.Tally(
        hour=hour, outcome=outcome, count=number, **{"endpoint": "POST /pay/", **more}
    )
    hours.add([tally], using="default")


def held(number: int = 0, **columns: Any) -> IdempotencyRecord:
    made: IdempotencyRecord = IdempotencyRecordFactory.create(
        **{
            "user": columns.pop("user", None) or UserFactory.create(username="ada"),
            "path": "/pay/",
            "held": True,
            "held_since": timezone.now() - timedelta(minutes=9 + number),
            **columns,
        },
    )
    return made


def dead(number: int = 0) -> ProcessedEvent:
    since = timezone.now() - timedelta(hours=2 + number)
    made: ProcessedEvent = ProcessedEventFactory.create(
        dead=True, event_type="payment_intent.failed", dead_since=since
    )
    return made


def test_page_says_what_was_stopped_and_what_waits(admin_client: Client) -> None:
    count("claimed", 2000)
    count("replayed", 118, currency="EUR", amount=Decimal("4211.40"))
    count("replayed", 2, currency="USD", amount=Decimal(10))
    count("replayed", 1, endpoint="PUT /cart/")
    count("mismatched", 6)
    count("mismatched", 1, endpoint="PUT /cart/")
    held()
    running = held(1, lease_expires_at=timezone.now() + timedelta(minutes=1))
    began = timezone.now() - timedelta(hours=5, minutes=7, seconds=20)
    IdempotencyRecord.objects.filter(pk=running.pk).update(created_at=began)
    dead()
    due_at = timezone.now() - timedelta(minutes=6)
    ProcessedEventFactory.create(due=True, next_attempt_at=due_at)
    page = shown(admin_client)

    assert tiles(page) == [
        ["121", "of 2,128 requests"],
        ["4,211 EUR", "and 10.00 USD"],
        ["1", "oldest 9 min"],
        ["1", "longest: 5 h 7 min"],
        ["7", "6 at POST /pay/"],
        ["1", "1 due, oldest 6 min"],
    ]
    assert "121 repeats were answered without doing the work again." in page
    assert "cost your customers 4,211.40 EUR, 10.00 USD." in page
    assert "121 repeats, 120 at POST /pay/." in page


def test_each_that_waits_says_whose_it_is_and_why(admin_client: Client) -> None:
    held(user=UserFactory.create(), last_error="requests.exceptions.Timeout")
    guest = held(user=UserFactory.create(), effects={})
    scope = f"anonymous|POST|{guest.path}"
    IdempotencyRecord.objects.filter(pk=guest.pk).update(scope=scope)
    task = held(user=UserFactory.create(), effects={})
    IdempotencyRecord.objects.filter(pk=task.pk).update(method="TASK")
    page = shown(admin_client)

    for told in ("a guest", "a task", "cut off in the middle", "“charge”: Timeout"):
        assert told in page


def test_repeats_of_one_hour_are_told_without_an_endpoint_that_is_gone(
    admin_client: Client,
) -> None:
    count("replayed", 2)
    count("claimed", 2)
    count("event_processed", 3, waited=6.0, endpoint="stripe")
    page = shown(admin_client)

    assert "2 repeats, all at POST /pay/." in page


def test_page_without_anything_is_calm(admin_client: Client) -> None:
    page = shown(admin_client)

    assert "Nothing was counted in this time." in page
    assert "Nobody is needed." in page
    assert page.count("None in this time.") == 2
    assert [number for number, _ in tiles(page)] == ["0"] * 6


def test_page_says_that_nothing_is_counted(admin_client: Client, settings: Any) -> None:
    settings.IDEMPOTENCY_STATISTICS = False
    held()
    page = shown(admin_client)

    assert "IDEMPOTENCY_STATISTICS is off" in page
    assert "Find out and settle" in page


@cases(
    "query, requests",
    {
        "a day": ("", 2),
        "a week": ("?span=7d", 4),
        "a month": ("?span=30d", 8),
        "nonsense": ("?span=1000y", 2),
    },
)
def test_page_is_about_the_chosen_time(
    query: str, requests: int, admin_client: Client
) -> None:
    for number, days in ((2, 0), (2, 3), (4, 20), (8, 60)):
        count("claimed", number, ago=days * 24)

    assert tiles(shown(admin_client, query))[0][1] == f"of {requests} requests"


def test_what_needs_somebody_has_a_row_and_a_link_each_newest_first(
    admin_client: Client,
) -> None:
    records = [held(number) for number in range(3)]
    event = dead()
    page = shown(admin_client)
    links = re.findall(r'<a href="([^"]*)/change/">', page)

    assert links == [
        *(f"{RECORDS}{record.pk}" for record in records),
        f"{EVENTS}{event.pk}",
    ]
    for url in links:
        assert admin_client.get(f"{url}/change/").status_code == 200
    assert page.count("“charge”: no answer, and its worker is gone") == 3
    assert "<td>ada</td>" in page


def test_many_that_wait_are_twenty_and_the_rest_a_number(admin_client: Client) -> None:
    for number in range(23):
        held(number)
        dead(number)
    page = shown(admin_client)

    assert len(re.findall("/change/", page)) == 20
    assert "And 26 more:" in page
    for url in re.findall(r'<a href="([^"]*state__exact[^"]*)">', page):
        assert admin_client.get(url).status_code == 200


@cases(
    "of, sees, misses",
    {
        "records": ("idempotencyrecord", "Repeats stopped", "Webhooks"),
        "events": ("processedevent", "Webhooks given up", "Repeats stopped"),
    },
)
def test_page_shows_only_what_one_may_view(of: str, sees: str, misses: str) -> None:
    held()
    dead()
    page = shown(colleague("view", of=of))

    assert (sees in page, misses in page) == (True, False)
    other = EVENTS if of == "idempotencyrecord" else RECORDS
    assert other not in page
    assert "Look at it" in page
    assert "run again" not in page
    assert "settle" not in page


@cases("permissions", {"none": (), "of another kind": ("delete",)})
def test_page_shows_nothing_to_whom_may_view_nothing(
    permissions: tuple[str, ...],
) -> None:
    response = colleague(*permissions).get(FRONT)

    assert "idempotency-front" not in response.content.decode()


def test_words_of_others_are_only_words(admin_client: Client) -> None:
    count("mismatched", 1, endpoint="POST /<script>/")
    held(path="/<b>/")

    text = admin_client.get(FRONT).content.decode()
    assert "<script>/" not in text
    assert "<b>" not in text
    assert (
        "style=" not in text.partition("idempotency-front")[2].partition("<script")[0]
    )


def test_page_asks_as_often_however_much_there_is(admin_client: Client) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            shown(admin_client, "?span=30d")
        return len(queries)

    count("mismatched", 1)
    count("replayed", 1)
    held()
    dead()
    before = asked()
    for number in range(30):
        count("mismatched", 1, ago=number, endpoint=f"POST /{number}/")
        held(number)
        dead(number)

    assert asked() == before
    assert before <= 17  # two of them are the session and the user


@pytest.mark.postgresql
def test_page_scans_no_table(admin_client: Client) -> None:
    for model in (HourlyCount, IdempotencyRecord, ProcessedEvent):
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {model._meta.db_table}")
    count("mismatched", 1)
    count("replayed", 1)
    held()
    dead()
    with CaptureQueriesContext(connection) as queries:
        shown(admin_client)
    ours = [
        each["sql"] for each in queries if 'FROM "django_idempotency' in each["sql"]
    ]
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for sql in ours:
            cursor.execute(f"EXPLAIN {sql}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan" not in plan, plan

    assert len(ours) >= 10


@cases("span", {each.name: each for each in spans()})
def test_each_moment_is_in_one_bar(span: Any) -> None:
    starts = span.starts

    assert starts[-1] <= timezone.now() < starts[-1] + timedelta(hours=span.hours)
    assert [span.index(starts, start) for start in starts] == list(range(span.bars))
    assert len({span.named(start) for start in starts}) == span.bars


def test_bars_stand_on_each_other_and_within_the_drawing() -> None:
    lower, upper = [0, 1, 1000, 5], [0, 1, 400, 0]
    bars = drawn("abcd", lower, upper, lambda number: (str(number),))

    for bar, low, up in zip(bars, lower, upper, strict=True):
        assert ((bar.lower is not None), (bar.upper is not None)) == (low > 0, up > 0)
        if bar.upper and bar.lower:
            end = float(bar.upper.y) + float(bar.upper.height)
            assert end == pytest.approx(float(bar.lower.y), abs=0.2)
        if bar.upper:
            assert 0 <= float(bar.upper.y) < HEIGHT
