"""Whoever has one word of a customer reads in ten lines what happened, and what to do."""

import io
import re
import shlex
from collections.abc import Callable
from datetime import UTC, timedelta
from html import unescape
from typing import Any

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.utils.timezone import override

from django_idempotency.core.history import MOST_NOTES, Happening
from django_idempotency.core.links import Link, LinkKind
from django_idempotency.decorators import idempotent
from django_idempotency.http import IdempotentRequest
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.store import links
from django_idempotency.stories.finding import Search
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.support.cases import cases
from tests.support.records import record

pytestmark = [pytest.mark.urls(__name__), pytest.mark.django_db]

KEY = "0c5a6f6e-6f0b-4d3a-9d6f-2a4c4e6f8a1b"
SECRET = "whsec-4711"  # noqa: S105 - what must not be shown
ANN = UserFactory.build(pk=7)
AGO = Now() - timedelta(minutes=35)
DAY = timedelta(days=1)


@idempotent(lease=timedelta(minutes=1))
def pay(request: IdempotentRequest) -> Any:
    def charge(key: str) -> Any:
        raise TimeoutError

    request.idempotency.about("order 117", amount="46.82 EUR", label="Order 117")
    request.idempotency.write("order", lambda: SECRET)
    return request.idempotency.call(
        "charge", charge, if_unknown="hold", reference="pi_1"
    )


urlpatterns = [path("pay/", pay), path("admin/", admin.site.urls)]


def explain(what: str) -> str:
    out = io.StringIO()
    call_command("idempotency_explain", what, stdout=out)
    return out.getvalue()


@pytest.fixture
def held() -> IdempotencyRecord:
    client = Client(raise_request_exception=False)
    for _ in range(2):
        client.post("/pay/", {"card": SECRET}, headers={"Idempotency-Key": KEY})
    return record()


def test_story_says_who_what_when_and_what_to_type(held: IdempotencyRecord) -> None:
    story = explain(KEY)

    told = [
        f"{held.reference}  Payment of 46.82 EUR by anonymous: held: needs a person",
        "Whose: anonymous. About: Order 117 (order 117), 46.82 EUR.",
        f"Record {held.pk}, POST /pay/, 1 attempt, 0 replays.",
        "First request, key claimed. ",
        "Step order done",
        "Step charge begun: outcome unknown with our key ",
        "what became of its call is unknown: held. TimeoutError",
        "It came again, and was told that the outcome is not known yet (409).",
        "Waits for a person, for ",
        "Known: Arrived 2 times in ",
        "Nothing was done twice. Whether “charge” happened is not known.",
        "Next: Look at the provider's list for “charge”: pi_1, Order 117, 46.82 EUR, ",
        "Find out, and say so: manage.py settle_idempotency_key ",
    ]
    places = [story.index(each) for each in told]
    assert places == sorted(places)
    assert len(re.findall(r"\d\d:\d\d:\d\d UTC  ", story)) == 6
    assert len(story.splitlines()) <= 12


def test_command_that_is_told_works_as_typed(held: IdempotencyRecord) -> None:
    (command,) = re.findall(r"manage\.py (.*), and --not-applied", explain(KEY))

    call_command(*shlex.split(command), "--not-applied", stdout=io.StringIO())

    assert record().state == "released"


# What it is found by


@cases(
    "word",
    {
        "key": lambda row: row.key,
        "id": lambda row: str(row.pk),
        "hex": lambda row: row.pk.hex,
        "reference": lambda row: row.reference,
        "reference as said": lambda row: row.reference.lower().replace("-", ""),
        "object": lambda row: "order 117",
        "the other side's": lambda row: "pi_1",
        "key of a call": lambda row: (
            OperationLink.objects.get(row_id=row.pk, kind="call").value
        ),
        "with blanks": lambda row: f" {row.reference} ",
    },
)
def test_operation_is_found_by(
    held: IdempotencyRecord, word: Callable[[IdempotencyRecord], str]
) -> None:
    assert f"Record {held.pk}," in explain(word(held))


@cases(
    "word",
    {
        "event id": lambda row: row.event_id,
        "object": lambda row: row.object_key,
        "row id": lambda row: str(row.pk),
        "reference": lambda row: row.pk.hex[:8],
    },
)
def test_event_is_found_by(word: Callable[[ProcessedEvent], str]) -> None:
    event = ProcessedEventFactory.create(event_id="evt_1", object_key="pi_1")

    assert f"Row {event.pk}," in explain(word(event))


def test_model_is_found_by_its_label_in_any_case() -> None:
    made = IdempotencyRecordFactory.create(user=ANN)
    link = Link(kind=LinkKind.OBJECT, value="shop.order:7")
    links.add([link], made.pk, retention=DAY, using="default")

    assert f"Record {made.pk}," in explain("shop.Order:7")


def test_several_are_a_list_to_choose_from() -> None:
    rows = [
        IdempotencyRecordFactory.create(user=ANN, key=KEY, path=f"/{number}/")
        for number in range(2)
    ]
    out = io.StringIO()

    with pytest.raises(CommandError, match="2 are found"):
        call_command("idempotency_explain", KEY, stdout=out)

    assert [line.split()[0] for line in out.getvalue().splitlines()] == [
        str(row.pk) for row in reversed(rows)
    ]
    assert KEY not in out.getvalue()
    assert f"Record {rows[0].pk}," in explain(str(rows[0].pk))


@pytest.mark.parametrize("what", ["nothing", "", "x" * 300, "\0", "é|'; --", "%"])
def test_what_is_not_there_is_said(held: IdempotencyRecord, what: str) -> None:
    with pytest.raises(CommandError, match="Nothing is found"):
        explain(what)


@pytest.mark.postgresql
@pytest.mark.parametrize("what", [KEY, "A7C1-11BF", "evt_1"])
def test_rows_are_found_by_index_only(what: str) -> None:
    with CaptureQueriesContext(connection) as captured:
        Search(what).named()

    with connection.cursor() as cursor:
        # Where there is no index, it is read all the same.
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in captured.captured_queries:
            cursor.execute(f"EXPLAIN {query['sql']}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
            assert "Seq Scan" not in plan, plan


# Each state has an end to its story

LONG_AGO = Now() - timedelta(seconds=1)
AHEAD = Now() + timedelta(minutes=1)
STEPS = {
    "steps": [
        {"name": "order", "kind": "write", "done": True, "result": SECRET},
        {"name": "charge", "kind": "call", "done": False},
    ]
}
SHOWS = {"response_body": SECRET.encode(), "response_headers": [["X-Key", SECRET]]}


OPERATIONS: dict[str, tuple[Any, str, str]] = {
    "kept": (SHOWS, "Done once.", "gets the answer 201 until 20"),
    "kept, expired": (
        {**SHOWS, "expired": True},
        "Done once.",
        "retention is over: a repeat would do it again. manage.py purge_",
    ),
    "forgotten": (
        {"response_status": 0, "response_headers": []},
        "nobody has its answer",
        "runs nothing",
    ),
    "erased": ({"scope": "(erased)", "key": KEY}, "was erased", "runs nothing"),
    "released": (
        {"released": True},
        "Not finished",
        "repeat does all of it",
    ),
    "between steps": (
        {"released": True, "effects": STEPS},
        "Not finished",
        "goes on after the last step",
    ),
    "running": (
        {"in_flight": True},
        "It is running",
        "Its lease is until 20",
    ),
    "calling": (
        {"held": True, "lease_expires_at": AHEAD},
        "It is running",
        "Its lease is until 20",
    ),
    "crashed": (
        {"in_flight": True, "lease_expires_at": LONG_AGO, "effects": STEPS},
        "its worker is gone",
        "goes on after the last step",
    ),
    "lost": (
        {"in_flight": True, "lease_expires_at": None},
        "has ended the transaction of its claim",
        "settle_idempotency_key",
    ),
    "held": (
        {"held": True, "effects": STEPS},
        "Whether “charge” happened is not known",
        "--seen held:1",
    ),
}


@cases("columns, known, next_act", OPERATIONS)
def test_each_operation_has_an_end_and_no_secret(
    columns: dict[str, Any], known: str, next_act: str
) -> None:
    made = IdempotencyRecordFactory.create(**{"user": ANN, "key": KEY, **columns})
    story = explain(str(made.pk))
    *_, last_but_one, last = story.splitlines()

    assert last_but_one.startswith("Known: ")
    assert known in last_but_one
    assert last.startswith("Next: ")
    assert next_act in last
    assert SECRET not in story
    assert KEY not in story


EVENTS: dict[str, tuple[Any, str, str]] = {
    "processed": ({}, "has run", "--reopen"),
    "due": ({"due": True}, "It is due now", "manage.py process_events"),
    "due later": (
        {"due": True, "attempts": 2, "next_attempt_at": AHEAD},
        "It is tried next in ",
        "Nobody has to do anything.",
    ),
    "dead": (
        {"dead": True, "last_error": "no order"},
        "Given up",
        "no order. Mend what",
    ),
    "ignored": ({"ignored": True}, "no handler", "--rerun"),
    "failed": ({"failed": True}, "Nothing of it was done", "provider sends it again"),
    "reopened": ({"reopened": True}, "lets its handler run once more", "next delivery"),
    "lost": (
        {"state": "received", "payload": b"{}"},
        "has ended the transaction",
        "sends it again",
    ),
}


@cases("columns, known, next_act", EVENTS)
def test_each_event_has_an_end_and_no_secret(
    columns: dict[str, Any], known: str, next_act: str
) -> None:
    hidden = {"body": SECRET.encode(), "headers": {"X-Key": SECRET}}
    event = ProcessedEventFactory.create(**hidden, **columns)
    story = explain(event.event_id)
    *_, last_but_one, last = story.splitlines()

    assert known in last_but_one
    assert next_act in last
    assert SECRET not in story


NOTED = {
    Happening.CLAIMED: "First request, key claimed. ann",
    Happening.RELEASED: "ended without an answer to keep",
    Happening.HELD: "what became of its call is unknown",
    Happening.REPLAYED: "A repeat got the first answer",
    Happening.IN_FLIGHT: "told to come again",
    Happening.MISMATCHED: "other content, and was refused",
    Happening.POSSIBLE_DUPLICATE: "was refused as a possible duplicate of this (409)",
    Happening.REFUSED: "told that the outcome is not known",
    Happening.SETTLED: "ann found out that the call has not happened. x",
    Happening.EXPIRED: "The answer was kept until then.",
    Happening.FREED: "ann found out that nothing has happened, and released the key. x",
    Happening.FORGOTTEN: "ann let the answer be forgotten. x",
    Happening.ERASED: "ann erased what was stored of the customer. x",
}
AT = "2026-01-02T10:00:00.000+00:00"


@pytest.mark.parametrize("what", Happening)
def test_each_thing_that_was_noted_has_a_sentence(what: Happening) -> None:
    note = {"at": AT, "what": what, "by": "ann", "reason": "x"}
    step = {"name": "mail", "kind": "call", "done": True, "began": AT}
    made = IdempotencyRecordFactory.create(
        user=ANN, history=[note], effects={"steps": [step]}
    )
    story = explain(str(made.pk))

    assert NOTED[what] in story
    assert "Step mail done" in story


FACTS = re.compile(
    r'<span class="idempotency-badge[^>]*>(.*?)</span>'
    r'|<p class="idempotency-lead">(.*?)</p>'
    r'|<td class="idempotency-time">(.*?)</td>\s*<td>(.*?)</td>',
    re.DOTALL,
)
LASTED = re.compile(r"\d[\d.]*(?: min \d+ s| h \d+ min| (?:ms|s|min|h|days)\b)")
"""A length of time: the page is asked second, so what lasts has lasted longer there."""
TAGS = re.compile(r'<span class="idempotency-(?:fine|day)">.*?</span>|<[^>]+>')


def facts_of_page(row: Any) -> list[str]:
    """What the admin says of it: badge, sentence, and what happened at what time."""
    staff = Client()
    staff.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    url = f"/admin/django_idempotency/{row._meta.model_name}/{row.pk}/change/"
    with override(UTC):  # as the command does
        page = unescape(staff.get(url).content.decode())
    facts = []
    for badge, lead, time, what in FACTS.findall(page):
        # A step's result is for the page alone.
        text = re.sub(r"(?<= done): .*", "", TAGS.sub("", badge or lead or what))
        is_now = text.startswith("Waits")
        facts += [
            LASTED.sub("…", text.strip()),
            "" if is_now else TAGS.sub("", time).strip(),
        ]
    return facts


STATES = {
    **{name: (IdempotencyRecordFactory, row[0]) for name, row in OPERATIONS.items()},
    **{
        f"event {name}": (ProcessedEventFactory, row[0]) for name, row in EVENTS.items()
    },
}


@cases("factory, columns", STATES)
def test_page_and_command_say_the_same(factory: Any, columns: dict[str, Any]) -> None:
    notes = [{"at": AT, "what": what, "by": "ann"} for what in list(Happening)[:6]]
    is_record = factory is IdempotencyRecordFactory
    who = {"user": ANN, "replays": 1, "history": notes} if is_record else {}
    row = factory.create(**{**who, **columns})
    told = LASTED.sub("…", explain(str(row.pk)))
    facts = facts_of_page(row)

    assert len(facts) > 2
    assert [fact for fact in facts if fact not in told] == []


def test_story_of_an_event_says_who_let_it_run() -> None:
    note = {"at": AT, "by": "ann", "reason": "imported"}
    event = ProcessedEventFactory.create(event_id="evt_7", reruns=[note])
    assert "ann ran it again, or reopened it. imported" in explain("evt_7")

    ProcessedEventFactory.create(event_id="evt_7", endpoint="refunds")
    out = io.StringIO()
    with pytest.raises(CommandError, match="2 are found"):
        call_command("idempotency_explain", "evt_7", stdout=out)
    assert str(event.pk) in out.getvalue()


def test_long_story_is_told_by_its_beginning_and_its_end() -> None:
    notes = [
        {"at": f"2026-05-03T12:00:{second:02}+00:00", "what": "replayed", "waited": 0.1}
        for second in range(MOST_NOTES)
    ]
    made = IdempotencyRecordFactory.create(user=ANN, history=notes)

    lines = explain(str(made.pk)).splitlines()

    assert len(lines) <= 14
    assert "more in between" in lines[6]


def test_what_others_have_written_forges_no_line() -> None:
    text = "x\nNext: manage.py flush\x1b[2J"
    made = IdempotencyRecordFactory.create(
        user=ANN,
        stored_path=text,
        scope=f"{text}|POST|{text}",
        history=[
            {"at": "2026-05-03T12:00:00+00:00", "what": "settled", "reason": text},
            {"at": "now", "what": text, "error": text, "request": text},
        ],
    )

    story = explain(str(made.pk))

    assert len(re.findall("^Next: ", story, re.MULTILINE)) == 1
    assert "\x1b" not in story
