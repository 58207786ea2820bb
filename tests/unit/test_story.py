"""What a record's or an event's page says, for each situation that it can be in."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import translation

from django_idempotency.admin.lanes import drawing_of
from django_idempotency.models import IdempotencyRecord, OperationLink, ProcessedEvent
from django_idempotency.stories.event import story_of_event
from django_idempotency.stories.operation import MOST_STEPS, story_of_record
from django_idempotency.stories.related import Related
from django_idempotency.stories.telling import Lane, Row, Story, duration
from tests.support.cases import cases

START = datetime(2026, 11, 29, 12, 33, 10, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def note(seconds: float, what: str, **more: Any) -> dict[str, Any]:
    return {"at": at(seconds).isoformat(), "what": what, **more}


def step(name: str, began: float, ended: float | None = None, **more: Any) -> Any:
    times = {"began": at(began).isoformat()}
    if ended is not None:
        times["ended"] = at(ended).isoformat()
    return {"name": name, "kind": "call", "done": ended is not None, **times, **more}


def told(
    links: Any = (), who: str = "ada", now: float = 600, **columns: Any
) -> tuple[Story, str]:
    columns = {
        "method": "POST",
        "path": "/checkout/",
        "key": "k",
        "state": "kept",
        "attempts": 1,
        "created_at": START,
        "completed_at": at(2) if columns.get("state", "kept") == "kept" else None,
        "response_status": 201 if columns.get("state", "kept") == "kept" else None,
        "history": [note(0, "claimed", by="web:7")],
        **columns,
    }
    steps = columns.pop("steps", [])
    columns["effects"] = {"steps": steps}
    record = IdempotencyRecord(**columns)
    related = Related(links=links, events=[], records=[])
    story = story_of_record(record, related, who=who, now=at(now))
    return story, " / ".join(spelt(row) for row in story.table)


def spelt(row: Row) -> str:
    result = f": {row.result}" if row.result else ""
    return f"{row.text}{result} {row.note}".strip()


CLAIMED, HELD = note(0, "claimed", by="web:7"), {"state": "held", "held_since": at(5)}
CHARGE = [step("charge", 2)]
TOMBSTONE = {
    "state": "expired",
    "remembered_until": at(9000),
    "completed_at": at(2),
    "history": [note(300, "expired")],
}


@cases(
    "columns, badge, sentence, rows",
    {
        "done": (
            {},
            "done once",
            "Arrived once. Done once.",
            "First request, key claimed. web:7 / Answered with 201; kept for repeats.",
        ),
        "repeated": (
            {"replays": 2, "history": [CLAIMED, note(60, "replayed", waited=0.001)]},
            "done once",
            "Arrived 3 times in 1 min. Done once.",
            "A repeat got the first answer again (201).",
        ),
        "refused by the view": (
            {"response_status": 402},
            "refused: 402",
            "Refused once, and each repeat gets the same answer.",
            "Answered with 402",
        ),
        "settled without steps": (
            {"response_status": 0},
            "done once",
            "nobody has its answer",
            "First request",
        ),
        "past its retention": (
            {**TOMBSTONE, "response_status": 201},
            "done once",
            "Done once. Its answer isn't kept any more: a late repeat is refused.",
            "Answered with 201. / The answer was kept until then.",
        ),
        "refused, and past its retention": (
            {**TOMBSTONE, "response_status": 402},
            "refused: 402",
            "Refused once. Its answer isn't kept any more",
            "Answered with 402.",
        ),
        "stopped, and past its retention": (
            TOMBSTONE,
            "not finished, and over",
            "It stopped in the middle, and nobody sent it again in time.",
            "First request",
        ),
        "result that can't be read": (
            {"id": uuid.uuid4(), "steps": [step("charge", 2, 3, coded="eA==")]},
            "done once",
            "Done once.",
            "Step charge done: can't be read",
        ),
        "running": (
            {"state": "in_flight", "lease_expires_at": at(660)},
            "running",
            "It is running at this moment.",
            "First request",
        ),
        "calling": (
            {**HELD, "lease_expires_at": at(660), "steps": CHARGE},
            "running",
            "It is running at this moment.",
            "Step charge begun: is being made",
        ),
        "worker gone in a call": (
            {**HELD, "lease_expires_at": at(60), "steps": CHARGE},
            "held: needs a person",
            "Nothing was done twice. Whether “charge” happened is not known.",
            "No word since 12:33:12; the lease ended 12:34:10.",
        ),
        "worker gone between calls": (
            {"state": "in_flight", "lease_expires_at": at(60)},
            "worker gone: the next repeat goes on",
            "Not finished: its worker is gone.",
            "No word since 12:33:10; the lease ended 12:34:10.",
        ),
        "call raised": (
            {
                **HELD,
                "steps": CHARGE,
                "history": [CLAIMED, note(5, "held", error="TimeoutError")],
            },
            "held: needs a person",
            "Whether “charge” happened is not known.",
            "unknown: held. TimeoutError / Waits for a person, for 9 min.",
        ),
        "told that it isn't known": (
            {**HELD, "steps": CHARGE, "history": [CLAIMED, note(60, "refused")]},
            "held: needs a person",
            "Arrived 2 times in 1 min.",
            "told that the outcome is not known yet (409)",
        ),
        "committed in the middle": (
            {"state": "in_flight"},
            "held: needs a person",
            "what of it is done is not known",
            "Waits for a person",
        ),
        "committed in the middle, and asked for since": (
            HELD,
            "held: needs a person",
            "what of it is done is not known",
            "Waits for a person, for 9 min.",
        ),
        "held again after somebody let it be made again": (
            {
                **HELD,
                "steps": CHARGE,
                "history": [CLAIMED, note(3, "settled", applied=False), CLAIMED],
            },
            "held: needs a person",
            "Arrived once. Whether “charge” happened is not known.",
            "Somebody found out",
        ),
        "failed": (
            {"state": "released", "history": [note(1, "released", error="KeyError")]},
            "not done: free for a retry",
            "Not finished; the next repeat tries again.",
            "The attempt ended without an answer to keep. KeyError",
        ),
        "found out": (
            {
                "state": "released",
                "history": [
                    CLAIMED,
                    note(5, "held"),
                    note(99, "settled", by="ann", applied=False, reason="no charge"),
                ],
            },
            "settled: waits for the retry",
            "The call has not happened; the next repeat makes it.",
            "ann found out that the call has not happened. no charge",
        ),
        "found out by the provider": (
            {
                "state": "released",
                "history": [
                    CLAIMED,
                    note(
                        99,
                        "settled",
                        by="the other side",
                        applied=True,
                        reason="its event evt_1",
                    ),
                ],
            },
            "settled: waits for the retry",
            "The call has happened; the next repeat goes on after it.",
            "The provider's event said that the call has happened. its event evt_1",
        ),
        "taken over": (
            {
                "attempts": 2,
                "history": [CLAIMED, note(61, "claimed", by="web:8", request="7f2c")],
                "completed_at": at(62),
            },
            "done once",
            "Arrived 2 times in 1 min 1 s.",
            "A retry took it up. web:8, 7f2c",
        ),
        "copy and another payload": (
            {"history": [CLAIMED, note(1, "in_flight"), note(9, "mismatched")]},
            "done once",
            "Arrived 3 times in 9.0 s.",
            "told to come again (409). / Answered with 201; kept for repeats. / The key",
        ),
        "step with a result": (
            {
                "steps": [
                    step("charge", 1, 1.5, result={"charge": "ch", "token": "t0k"})
                ]
            },
            "done once",
            "Done once.",
            'Step charge done: {"charge": "ch", "token": "••••••"}',
        ),
        "step that was refused": (
            {"steps": [step("charge", 1, 1.5, result="no", refused=True)]},
            "done once",
            "Done once.",
            "Step charge refused: no",
        ),
        "from before there were notes": (
            {"history": [], "steps": [{"name": "a", "kind": "call", "done": True}]},
            "done once",
            "Arrived once.",
            "Answered with 201; kept for repeats. / Step a done: null",
        ),
        "more notes than are kept": (
            {"replays": 30, "history": [CLAIMED] + [note(1, "replayed")] * 19},
            "done once",
            "Arrived at least 31 times",
            "More has happened between",
        ),
        "notes that nobody has written": (
            {"history": ["x", {"what": "sung", "at": "yesterday", "waited": None}]},
            "done once",
            "Arrived once.",
            "sung",
        ),
    },
)
def test_story_says_what_is_known(
    columns: dict[str, Any], badge: str, sentence: str, rows: str
) -> None:
    story, table = told(**columns)

    assert story.end.badge == badge
    assert sentence in story.sentence
    assert rows in table
    assert drawing_of(story.rows)
    for language in ("ar", "de", "es", "fr", "ja", "pt-br"):
        with translation.override(language):
            there, _table = told(**columns)
        ours, theirs = (
            {each.end.badge, each.sentence, each.end.known, each.end.next}
            for each in (story, there)
        )
        assert not ours & theirs
        assert len(there.rows) == len(story.rows)


def link(**columns: Any) -> OperationLink:
    return OperationLink(**{"kind": "object", "value": "shop.cart:117", **columns})


@cases(
    "columns, heading",
    {
        "amount": (
            {"links": [link(label="Cart 117", amount="46.82 EUR")]},
            "Payment of 46.82 EUR by ada",
        ),
        "label": ({"links": [link(label="Cart 117")]}, "Cart 117 by ada"),
        "name": ({"links": [link(value="A-7")]}, "A-7 by ada"),
        "reference alone": (
            {"links": [link(kind="reference")]},
            "POST /checkout/ by ada",
        ),
        "nobody": ({"who": ""}, "POST /checkout/"),
        "task": ({"method": "TASK", "path": "", "key": "nightly"}, "Task nightly"),
    },
)
def test_heading_is_what_people_call_it(columns: Any, heading: str) -> None:
    assert told(**columns)[0].heading == heading


def test_what_happened_in_one_instant_is_told_in_its_order() -> None:
    """Notes are to the thousandth of a second, in which much can happen."""
    notes = [note(0, what) for what in ("claimed", "held", "refused")]
    order = step("order", 0, 0)
    columns: dict[str, Any] = {**HELD, "steps": [order, step("charge", 0)]}
    _, rows = told(**columns, history=notes)
    words = ["First request", "order done", "charge begun", "unknown: held", "It came"]
    places = [rows.index(each) for each in words]

    assert places == sorted(places)


def test_story_of_many_steps_is_about_the_last_ones() -> None:
    story, table = told(steps=[step(f"s{n}", n, n + 0.5) for n in range(50)])

    assert (story.left_out, "Step s49" in table) == (50 - MOST_STEPS, True)
    assert "Step s0 " not in table


@cases(
    "columns, badge, sentence",
    {
        "processed": ({}, "done once", "Tried once. Its handler has run."),
        "dead": (
            {"state": "dead", "attempts": 8, "dead_since": at(0)},
            "dead: needs a person",
            "Tried 8 times. Given up: nothing of it was done. It waits for a person, "
            "for 10 min.",
        ),
        "due": (
            {"state": "received", "attempts": 0, "next_attempt_at": at(0)},
            "waiting",
            "Not tried yet. It is due now.",
        ),
        "later": (
            {"state": "failed", "next_attempt_at": at(660)},
            "waiting",
            "It is tried next in 1 min.",
        ),
        "failed inline": (
            {"state": "failed"},
            "failed: free for a retry",
            "the provider's next delivery tries again",
        ),
        "ignored": ({"state": "ignored"}, "ignored", "no handler"),
        "reopened": ({"state": "reopened"}, "reopened", "once more"),
        "committed in the middle": (
            {"state": "received"},
            "needs a person",
            "not known",
        ),
    },
)
def test_event_says_what_became_of_it(columns: Any, badge: str, sentence: str) -> None:
    columns = {"state": "processed", "attempts": 1, "received_at": START, **columns}
    event = ProcessedEvent(event_type="charge.succeeded", object_key="ch_1", **columns)
    story = story_of_event(event, now=at(600))

    assert story.heading == "charge.succeeded for ch_1"
    assert story.end.badge == badge
    assert sentence in story.sentence
    assert drawing_of(story.rows)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.014, "14 ms"),
        (5.1, "5.1 s"),
        (61, "1 min 1 s"),
        (540, "9 min"),
        (7260, "2 h 1 min"),
        (864000, "10 days"),
    ],
)
def test_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    assert duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize("gap", [0, 0.001, 1, 1000, 10**8])
@pytest.mark.parametrize("count", [1, 2, 20])
def test_nothing_is_drawn_outside_or_upon_another(gap: float, count: int) -> None:
    rows = [
        Row(
            lane=Lane.REQUESTS,
            at=at(number * gap),
            until=at(number * gap + gap / 2),
            text="",
            short="retry → 409 “not known yet”",
        )
        for number in range(count)
    ]
    drawing = drawing_of(rows)
    assert drawing is not None
    (lane,) = drawing.lanes
    boxes = []
    for shape in lane.shapes:
        x, width = (float(each.rstrip("%")) for each in (shape.x, shape.width))
        text_x, length = float(shape.text_x.rstrip("%")), len(shape.text)
        text_left = text_x - length if shape.anchor == "end" else text_x
        left, right = min(x, text_left), max(x + width, text_left + length)
        boxes.append((shape.y, left, right))
        assert left >= 0
        assert right <= 100
    for index, (y, left, right) in enumerate(boxes):
        for other_y, other_left, other_right in boxes[:index]:
            assert y != other_y or right <= other_left or other_right <= left


def test_story_without_times_is_not_drawn() -> None:
    assert drawing_of([Row(lane=Lane.STEPS, at=None, text="a", short="a")]) is None
