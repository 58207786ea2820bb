"""The counts of hours, added up by processes that share nothing but the database."""

import multiprocessing
import signal
from contextlib import ExitStack

import pytest
from django.db.models import Sum

from django_idempotency.models import HourlyCount
from tests.concurrency.count_hours import LOST
from tests.support.programs import running
from tests.support.threads import TIMEOUT

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

PROGRAM = ("-m", "tests.concurrency.count_hours")


def counted(*arguments: str, processes: int = 1) -> tuple[int, set[int]]:
    with ExitStack() as stack:
        started = [
            stack.enter_context(running(*PROGRAM, *arguments)) for _ in range(processes)
        ]
        codes = {process.wait(TIMEOUT) for process in started}
    number: int = HourlyCount.objects.aggregate(all=Sum("count"))["all"] or 0
    return number, codes


def test_nothing_is_lost_or_counted_twice_by_processes_that_end() -> None:
    assert counted("500", processes=4) == (4 * 2 * 500, {0})


@pytest.mark.parametrize(
    "how",
    [
        ["forked"],
        *(["multiprocessing", way] for way in multiprocessing.get_all_start_methods()),
    ],
    ids=" ".join,
)
def test_child_process_counts_its_own_and_not_its_parents(how: list[str]) -> None:
    assert counted("100", *how) == (2 * 2 * 100, {0})


def test_kill_takes_only_what_was_counted_since_the_last_time() -> None:
    assert LOST > 0
    assert counted("100", "killed") == (2 * 100, {-signal.SIGKILL})
