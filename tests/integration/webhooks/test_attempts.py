"""The ledger of an event: when each attempt ran, how it ended, and by what."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.core.attempts import Attempt, attempts_of
from django_idempotency.core.history import MOST_NOTES
from django_idempotency.models import ProcessedEvent
from django_idempotency.store import due
from django_idempotency.store.events import event_alias
from django_idempotency.stories.event import story_of_event
from django_idempotency.webhooks import NotReady, PermanentError
from django_idempotency.webhooks.inbox import reopen, rerun
from tests.integration.webhooks.receivers import (
    let_expire,
    make_due,
    marks,
    only,
    scene,
    steps,
)
from tests.support.databases import without_limits
from tests.support.deliveries import deliver, stripe

pytestmark = marks

each_way = pytest.mark.parametrize("way", ["inline", "inbox"])
FAILURES = (ValueError("of a customer"), NotReady("later"), PermanentError("no order"))
TOLD = (
    ("failed", "builtins.ValueError"),
    ("failed", "django_idempotency.webhooks.events.NotReady"),
    ("dead", "django_idempotency.webhooks.events.PermanentError: no order"),
)


def again(way: str) -> None:
    """Let another attempt be made."""
    if way == "inline":
        deliver("/inline/", stripe())
    else:
        make_due()
        steps()


def began(way: str) -> None:
    deliver(f"/{way}/", stripe())
    if way == "inbox":
        steps()


def ledger() -> list[Attempt]:
    return attempts_of(only().history)


def told() -> list[tuple[str, str]]:
    return [(each.outcome, each.error) for each in ledger()]


@each_way
def test_each_attempt_is_noted_with_its_end_and_its_error(way: str) -> None:
    scene.failures.extend(FAILURES)
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    began(way)
    for _ in FAILURES[1:]:
        again(way)

    assert told() == [*TOLD]
    times = [each.ended for each in ledger()]
    assert times == sorted(times)
    assert before <= datetime.fromisoformat(times[0]) <= datetime.now(UTC)
    assert {each.way for each in ledger()} == {way}
    assert all(":" in each.by for each in ledger())
    assert all(bool(each.began) == (way == "inbox") for each in ledger())


@each_way
def test_success_and_what_nobody_handles_are_noted(way: str) -> None:
    began(way)
    assert told() == [("processed", "")]

    path = {"inline": "/payments/", "inbox": "/stored-payments/"}[way]
    deliver(path, stripe("evt_other", type="other"))
    steps()
    other = ProcessedEvent.objects.get(event_id="evt_other")
    assert [each.outcome for each in attempts_of(other.history)] == ["ignored"]


def test_attempt_that_has_killed_its_worker_is_seen() -> None:
    deliver("/inbox/", stripe())
    due.look(using=event_alias(), free_after=timedelta(0))
    steps()

    killed, done = ledger()
    assert (killed.outcome, killed.ended, bool(killed.began)) == ("", "", True)
    assert (done.outcome, killed.began <= done.began) == ("processed", True)


@each_way
@pytest.mark.parametrize("end", ["rerun", "rerun in vain", "reopened"])
def test_ledger_outlives_what_people_let_run_again(way: str, end: str) -> None:
    scene.failures.extend([] if end == "reopened" else [PermanentError("no order")])
    began(way)
    first = told()
    if end == "reopened":
        reopen(only(), reason="lost")
        began(way)
    else:
        scene.failures.extend([ValueError()] if end == "rerun in vain" else [])
        rerun(only(), reason="mended")

    in_vain = ("dead", "builtins.ValueError")
    assert told() == [*first, in_vain if end == "rerun in vain" else ("processed", "")]
    assert ledger()[-1].way == (way if end == "reopened" else "rerun")


@each_way
def test_new_life_of_an_event_has_a_ledger_of_its_own(way: str) -> None:
    began(way)
    let_expire(after=timedelta(days=400))
    began(way)

    assert told() == [("processed", "")]


@each_way
def test_ledger_is_bounded_and_keeps_its_beginning_and_its_end(way: str) -> None:
    notes_of_one = 1 if way == "inline" else 2
    scene.failures.extend(ValueError() for _ in range(MOST_NOTES // notes_of_one))
    scene.failures.append(PermanentError("x" * 1000))
    began(way)
    first = only().history[0]
    while scene.failures:
        again(way)

    assert len(only().history) == MOST_NOTES
    assert only().history[0] == first
    assert len(ledger()[-1].error) == 255


STEP = ["SELECT", "UPDATE", "SELECT", "UPDATE", "UPDATE"]
STATEMENTS = {
    "inline": ["INSERT", "UPDATE"],
    "inbox": ["INSERT", *STEP, "SELECT"],  # and there is nothing more to do
}


@each_way
def test_ledger_takes_no_statement_of_its_own(way: str) -> None:
    assert _verbs(lambda: began(way)) == STATEMENTS[way]


def _verbs(act: Callable[[], object]) -> list[str]:
    table = ProcessedEvent._meta.db_table
    verbs: list[str] = []

    def noted(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if table in sql:
            verbs.append(without_limits(sql).split(" ", 1)[0])
        return execute(sql, *arguments)

    with connection.execute_wrapper(noted):
        act()
    return verbs


@each_way
def test_story_tells_when_each_attempt_ran_and_why_it_failed(way: str) -> None:
    scene.failures.extend(FAILURES)
    began(way)
    for _ in FAILURES[1:]:
        again(way)
    out = io.StringIO()
    call_command("idempotency_explain", "evt_1", stdout=out)
    story = story_of_event(only(), now=datetime.now(UTC))
    texts = [row.text for row in story.rows]

    for _, error in TOLD:
        assert f": {error}" in out.getvalue()
        assert any(error in text for text in texts), texts
    assert "of a customer" not in out.getvalue() + str(texts)
