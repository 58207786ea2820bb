"""``purge_idempotency_keys`` deletes what has expired and nothing else."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import QuerySet
from django.db.models.functions import Now

from django_idempotency.management import progress
from django_idempotency.models import IdempotencyRecord
from django_idempotency.purging import Purge
from tests.concurrency.servers import environment
from tests.concurrency.storm import second_connection, until

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
TABLE = IdempotencyRecord._meta.db_table


def make(name: str = "", *, expired_for: timedelta = HOUR, **columns: Any) -> None:
    IdempotencyRecord.objects.create(
        **{
            "id": uuid.uuid4(),
            "key": name,
            "state": "released",
            "created_at": Now() - timedelta(days=1),
            "expires_at": Now() - expired_for,
            **columns,
        }
    )


def make_expired(count: int) -> None:
    """Make many records in one statement."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (id, scope, key, method, path, fingerprint, state,"  # noqa: S608
            " effects, attempts, last_error, replays, created_at, expires_at)"
            " SELECT gen_random_uuid(), '', n::text, 'POST', '/', '', 'released',"
            " '{}', 1, '', 0, now(), now() - n * interval '1 second'"
            " FROM generate_series(1, %s) AS n",
            [count],
        )


def purge(*arguments: str) -> str:
    out = io.StringIO()
    call_command("purge_idempotency_keys", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def closing_line(records: int) -> str:
    return f"Purged {records} idempotency records, 0 processed events.\n"


def names(records: QuerySet[IdempotencyRecord] | None = None) -> list[str]:
    return sorted((records or IdempotencyRecord.objects).values_list("key", flat=True))


# What goes and what stays


def test_expired_records_go_in_any_final_state() -> None:
    for state in ("in_flight", "released"):
        make(state, state=state)
    make("kept", state="kept", response_status=201, response_headers=[])
    purge()

    assert names() == []


def test_unexpired_records_stay() -> None:
    make("live", expired_for=-HOUR)
    make("expired")
    purge()

    assert names() == ["live"]


def test_held_records_stay() -> None:
    make("held", state="held")
    purge()

    assert names() == ["held"]


def test_records_with_a_live_lease_stay() -> None:
    make("leased", state="in_flight", lease_expires_at=Now() + HOUR)
    purge()

    assert names() == ["leased"]


def test_records_whose_lease_is_over_go() -> None:
    make("lapsed", state="in_flight", lease_expires_at=Now() - HOUR)
    purge()

    assert names() == []


@pytest.mark.postgresql
def test_locked_records_stay_and_are_not_waited_for() -> None:
    make("locked")
    make("free")
    with second_connection() as other, other.cursor() as cursor:
        other.set_autocommit(False)
        cursor.execute(f"SELECT 1 FROM {TABLE} WHERE key = 'locked' FOR UPDATE")  # noqa: S608
        out = purge()
        other.rollback()

    assert (out, names()) == (
        closing_line(1),
        ["locked"],
    )


def test_record_that_is_renewed_between_batches_stays() -> None:  # FR-073
    for name in ("a", "b", "c"):
        make(name)
    batches = Purge.of_records(using="default", for_at_least=timedelta(0)).batches(1)
    next(batches)
    renewed = names()[0]
    IdempotencyRecord.objects.filter(key=renewed).update(expires_at=Now() + HOUR)
    list(batches)

    assert names() == [renewed]


def test_record_that_is_made_between_batches_stays() -> None:  # FR-073
    for name in ("a", "b"):
        make(name)
    batches = Purge.of_records(using="default", for_at_least=timedelta(0)).batches(1)
    next(batches)
    # Expired when the next batch looks, but not when the purge began.
    make("new", expired_for=timedelta(0))
    list(batches)

    assert names() == ["new"]


# Options


@pytest.mark.parametrize(
    ("older_than", "left"),
    [
        ("0s", ["live"]),
        ("30m", ["live"]),
        ("90m", ["hour", "live"]),
        ("1h30m", ["hour", "live"]),
        ("7d", ["day", "hour", "live"]),
    ],
)
def test_older_than_lengthens_the_retention(older_than: str, left: list[str]) -> None:
    make("hour", expired_for=HOUR)
    make("day", expired_for=timedelta(days=1))
    make("live", expired_for=-HOUR)
    purge("--older-than", older_than)

    assert names() == left


@pytest.mark.parametrize(
    "arguments",
    [
        ["--older-than=7"],
        ["--older-than=-1d"],
        ["--older-than=1.5h"],
        ["--older-than=soon"],
        ["--older-than="],
        ["--older-than=99999999999999w"],
        ["--batch-size=0"],
        ["--batch-size=-1"],
        ["--batch-size=many"],
        ["--max-seconds=0"],
        ["--max-seconds=x"],
        ["--database=nowhere"],
    ],
    ids=" ".join,
)
def test_value_that_cannot_be_meant_is_refused(arguments: list[str]) -> None:
    make()
    with pytest.raises(CommandError, match=arguments[0].partition("=")[0]):
        purge(*arguments)

    assert IdempotencyRecord.objects.count() == 1


def test_longest_duration_is_no_crash() -> None:
    make()
    purge("--older-than", "3650d")

    assert IdempotencyRecord.objects.count() == 1


def test_dry_run_counts() -> None:
    make()
    make(expired_for=-HOUR)

    assert (
        purge("--dry-run") == "Would purge 1 idempotency records, 0 processed events.\n"
    )


def test_dry_run_deletes_nothing() -> None:
    make()
    purge("--dry-run")

    assert IdempotencyRecord.objects.count() == 1


@pytest.mark.parametrize("size", ["1", "2", "3", "100"])
def test_every_batch_size_deletes_everything(size: str) -> None:
    for _ in range(5):
        make()

    assert purge("--batch-size", size) == closing_line(5)
    assert not IdempotencyRecord.objects.exists()


def test_batches_are_as_large_as_told() -> None:
    for _ in range(5):
        make()

    batches = Purge.of_records(using="default", for_at_least=timedelta(0)).batches(2)
    assert list(batches) == [2, 2, 1]


@pytest.mark.postgresql
def test_max_seconds_ends_the_purge_early() -> None:
    make_expired(20_000)
    out = purge("--batch-size", "1", "--max-seconds", "1")

    assert 0 < IdempotencyRecord.objects.count() < 20_000
    assert out == closing_line(20_000 - IdempotencyRecord.objects.count())


@pytest.mark.parametrize("disabled", [True, False])
def test_purge_needs_no_server_side_cursor(
    disabled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(  # FR-076
        connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", disabled
    )
    make()

    assert purge() == closing_line(1)


def test_purge_of_nothing_says_so() -> None:
    assert purge() == closing_line(0)


# What it costs


def peak_of_purging(count: int) -> int:
    make_expired(count)
    tracemalloc.start()
    try:
        purge()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.postgresql
def test_memory_does_not_grow_with_the_records() -> None:  # FR-071
    peak_of_purging(10_000)  # fills the caches
    small, large = peak_of_purging(10_000), peak_of_purging(200_000)

    assert large < small + 100_000
    assert not IdempotencyRecord.objects.exists()


# In a process of its own


@contextmanager
def process(*arguments: str, **streams: Any) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "django", "purge_idempotency_keys", *arguments],
        cwd=Path(__file__).parents[2],
        env=environment(),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    ) as running:
        yield running


@pytest.mark.postgresql
def test_interruption_keeps_what_was_deleted() -> None:  # FR-071
    make_expired(50_000)
    with process("--batch-size", "10") as running:
        until(lambda: IdempotencyRecord.objects.count() < 49_000)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=30)[1]

    purged = 50_000 - IdempotencyRecord.objects.count()
    assert said.endswith(f"Interrupted. {closing_line(purged)}")
    assert running.returncode == 130


@pytest.mark.postgresql
def test_interruption_shows_no_traceback() -> None:
    make_expired(50_000)
    with process("--batch-size", "10") as running:
        until(lambda: IdempotencyRecord.objects.count() < 49_000)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=30)[1]

    assert "Traceback" not in said


@pytest.mark.postgresql
def test_cron_is_told_one_line() -> None:
    make()
    with process() as running:
        said = running.communicate(timeout=30)

    assert said == (closing_line(1), "")


@pytest.mark.postgresql
def test_terminal_is_shown_a_bar() -> None:
    make_expired(3)
    reader, writer = os.openpty()
    with process("--batch-size", "1", stderr=writer) as running:
        os.close(writer)
        running.communicate(timeout=30)
    shown = os.read(reader, 10_000).decode()
    os.close(reader)

    assert re.findall(r"\r(Purging \[[#.]+\] +\d+% \d)", shown) == [
        "Purging [##########....................]  33% 1",
        "Purging [####################..........]  67% 2",
        "Purging [##############################] 100% 3",
    ]


def test_long_purge_without_a_terminal_writes_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    out = io.StringIO()
    shown = progress.Progress(out, count_left=lambda: 1000, verb="Purging")
    shown.show(1000)
    shown.close()

    assert out.getvalue() == "Purging 1,000 of 2,000\n"
