"""What waits is said in a minute's glance, and fails the check that asks for it."""

import io
import json
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime

from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from tests.factories import IdempotencyRecordFactory, ProcessedEventFactory, UserFactory
from tests.support.cases import cases

pytestmark = pytest.mark.django_db

ANN = UserFactory.build(pk=7)
AGO = Now() - timedelta(minutes=35)


def hold() -> None:
    IdempotencyRecordFactory.create(user=ANN, held=True, held_since=AGO)


def call() -> None:
    """A call whose outcome would be unknown is being made at this moment."""
    ahead = Now() + timedelta(minutes=1)
    IdempotencyRecordFactory.create(
        user=ANN, held=True, held_since=AGO, lease_expires_at=ahead
    )


def bury() -> None:
    ProcessedEventFactory.create(dead=True, dead_since=AGO)


def pile_up() -> None:
    ProcessedEventFactory.create(due=True, next_attempt_at=AGO)


def expire_record() -> None:
    IdempotencyRecordFactory.create(user=ANN, expires_at=AGO)


def expire_event() -> None:
    ProcessedEventFactory.create(expires_at=AGO)


def status(*arguments: str) -> tuple[int, str, str]:
    """The exit code, and what goes to the two streams."""
    out = io.StringIO()
    try:
        call_command("idempotency_status", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, out.getvalue(), str(error)
    return 0, out.getvalue(), ""


@cases(
    "limit, waits, sentence",
    {
        "held": ("held", hold, "held: 1 operation is held, since"),
        "held for long": ("held=34m", hold, "More than 34m is too long."),
        "held a moment": ("held=36m", hold, ""),
        "being called": ("held", call, ""),
        "dead": ("dead", bury, "dead: 1 event is dead, since"),
        "backlog": ("backlog=10m", pile_up, "Start a worker"),
        "backlog a moment": ("backlog=36m", pile_up, ""),
        "records": ("purge", expire_record, "purge: 1 row is past its retention"),
        "events": ("purge=30m", expire_event, "purge_idempotency_keys"),
        "another one": ("held,backlog,purge", bury, ""),
        "nothing": ("held,dead,backlog,purge", lambda: None, ""),
    },
)
def test_broken_limit_is_a_sentence_and_an_exit_code(
    limit: str, waits: Any, sentence: str
) -> None:
    waits()

    assert status()[0] == 0
    code, _, told = status("--fail-on", limit)

    assert code == (1 if sentence else 0)
    assert sentence in told
    assert len(told.splitlines()) == code


def test_each_broken_limit_is_told() -> None:
    for waits in (hold, bury, pile_up, expire_record):
        waits()

    code, out, told = status("--fail-on", "held,dead,backlog=10m,purge=30m")

    names = [line.partition(":")[0] for line in told.splitlines()]
    assert (code, names) == (1, ["held", "dead", "backlog", "purge"])
    assert "1 event is due, since" in out


def test_json_has_the_numbers_the_times_and_what_is_broken() -> None:
    hold()
    bury()

    _, out, _ = status("--format", "json", "--fail-on", "dead")

    told = json.loads(out)
    since = [told.pop(name) for name in ("oldest_held_since", "oldest_dead_since")]
    (sentence,) = told.pop("broken")
    assert [parse_datetime(each) is not None for each in since] == [True, True]
    assert sentence.startswith("dead: 1 event is dead")
    assert {name: value for name, value in told.items() if value} == {
        "held": 1,
        "dead": 1,
    }


@pytest.mark.parametrize("limits", ["", "held,", "helt", "backlog=10", "purge="])
def test_limit_that_cannot_be_meant_is_refused(limits: str) -> None:
    with pytest.raises(CommandError, match=r"isn't a (limit|duration)"):
        call_command("idempotency_status", "--fail-on", limits)


@pytest.mark.postgresql
def test_database_that_cannot_be_read_is_a_sentence() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {ProcessedEvent._meta.db_table} RENAME TO gone")

    code, _, told = status()

    assert code == 1
    assert told.startswith("The database can't be read:")


def test_nothing_is_written() -> None:
    hold()
    before = list(IdempotencyRecord.objects.values())

    status("--fail-on", "held")

    assert list(IdempotencyRecord.objects.values()) == before
