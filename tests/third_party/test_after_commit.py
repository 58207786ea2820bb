"""The page on what follows a commit, with a process that is killed right after it."""

import signal
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django_tasks_db.models import DBTaskResult

from django_idempotency.models import IdempotencyRecord
from tests.support.ordering import is_replay, orders
from tests.support.pages import block, run
from tests.support.programs import running
from tests.testapp.models import Cart
from tests.third_party.after_commit import (
    DATABASE,
    OUTSIDE,
    PAGE,
    PROGRAM,
    check_out,
    make,
)

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

killed_or_not = pytest.mark.parametrize("is_killed", [True, False])


def leave(part: str, folder: Path, is_killed: bool) -> None:
    """Check out in a process of its own, which has committed when it is killed."""
    User.objects.create(username="ann")
    program = ("-c", PROGRAM, part, str(is_killed))
    settings = {"DJANGO_SETTINGS_MODULE": "tests.third_party.settings"}
    with running(*program, str(folder), **settings) as process:
        process.wait(60)
        assert process.returncode == (-signal.SIGKILL if is_killed else 0)
    assert orders() == 1
    # Nobody who comes back makes it good.
    assert is_replay(check_out(part, folder))
    assert (orders(), IdempotencyRecord.objects.count()) == (1, 1)


def receipts() -> int:
    return Cart.objects.count()


@killed_or_not
def test_task_in_the_same_database_is_there(tmp_path: Path, is_killed: bool) -> None:
    leave(DATABASE, tmp_path, is_killed)
    call_command("db_worker", batch=True, interval=0, startup_delay=False, verbosity=0)

    assert [each.status for each in DBTaskResult.objects.all()] == ["SUCCESSFUL"]
    assert receipts() == 1


@killed_or_not
def test_task_for_a_queue_outside_is_lost_until_the_sweep(
    tmp_path: Path, is_killed: bool
) -> None:
    """The process that isn't killed is the control: its task is in the queue."""
    leave(OUTSIDE, tmp_path, is_killed)
    assert len([*tmp_path.iterdir()]) == (0 if is_killed else 1)

    names = make(OUTSIDE, tmp_path)
    for _ in range(2):
        names["Command"]().handle()
    enqueued = len([*tmp_path.iterdir()])
    assert enqueued == (2 if is_killed else 3)
    for _ in range(enqueued):
        names["send_receipt"](names["recent_orders"]()[0])

    assert receipts() == 1


def test_settings_of_the_page_are_those_of_this_row() -> None:
    from django.conf import settings

    names = run(block(PAGE, "TASKS ="), {"INSTALLED_APPS": []})

    assert names["TASKS"] == settings.TASKS
    assert set(names["INSTALLED_APPS"]) <= set(settings.INSTALLED_APPS)
