"""``manage.py purge_idempotency_keys`` as cron and people start it."""

import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from django_idempotency.models import IdempotencyRecord
from tests.support.programs import environment
from tests.support.threads import second_connection, until

from .test_purge import TABLE, closing_line, make, make_expired, purge

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]


def peak_of_purging(count: int) -> int:
    make_expired(count)
    tracemalloc.start()
    try:
        purge()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_records() -> None:  # FR-071
    peak_of_purging(10_000)  # fills the caches
    small, large = peak_of_purging(10_000), peak_of_purging(60_000)

    assert large < small + 100_000
    assert not IdempotencyRecord.objects.exists()


@contextmanager
def process(
    *arguments: str, options: str = "", **streams: Any
) -> Iterator[subprocess.Popen[str]]:
    """The program; `options` are those of its sessions."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "django", "purge_idempotency_keys", *arguments],
        cwd=Path(__file__).parents[3],
        env=environment(PGOPTIONS=options),
        text=True,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams},
    ) as running:
        yield running


def test_interruption_keeps_what_was_deleted() -> None:  # FR-071
    make_expired(10_000)
    with process("--batch-size", "1") as running:
        # It starts in a process, on a machine that may be busy.
        until(lambda: IdempotencyRecord.objects.count() < 9_900, timeout=80)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=100)[1]

    purged = 10_000 - IdempotencyRecord.objects.count()
    assert said.endswith(f"Interrupted. {closing_line(purged)}")
    assert "Traceback" not in said
    assert running.returncode == 130


def test_cron_is_told_one_line() -> None:
    make()
    with process() as running:
        said = running.communicate(timeout=100)

    assert said == (closing_line(1), "")


def test_terminal_is_shown_a_bar() -> None:
    make_expired(3)
    reader, writer = os.openpty()
    with process("--batch-size", "1", stderr=writer) as running:
        os.close(writer)
        running.communicate(timeout=100)
    shown = os.read(reader, 10_000).decode()
    os.close(reader)

    assert re.findall(r"\r([^\r]+?) *(?=\r)", shown) == [
        "Purging [##########....................]  33% 1",
        "Purging [####################..........]  67% 2",
        "Purging [##############################] 100% 3",
    ]
    assert shown.count("\n") == 1


@pytest.mark.direct
@pytest.mark.parametrize("is_interrupted", [True, False], ids=["Ctrl-C", "goes on"])
def test_purge_waits_for_a_table_that_somebody_else_has_locked(
    is_interrupted: bool,
) -> None:
    """Such as a migration, where the project lets no session wait for long."""
    make()
    with second_connection() as other:
        other.set_autocommit(False)
        other.cursor().execute(f"LOCK TABLE {TABLE}")
        reader, writer = os.openpty()
        with process(options="-c lock_timeout=50ms", stderr=writer) as running:
            os.close(writer)
            shown = os.read(reader, 10_000).decode()
            if is_interrupted:
                running.send_signal(signal.SIGINT)
            else:
                other.rollback()
            said = running.communicate(timeout=100)[0]
        shown += os.read(reader, 10_000).decode()
        os.close(reader)

    assert "Purging 0, waiting: others keep the database busy" in shown
    assert ("Interrupted. Purged 0" in shown) == is_interrupted
    assert said == ("" if is_interrupted else closing_line(1))
    assert running.returncode == (130 if is_interrupted else 0)
