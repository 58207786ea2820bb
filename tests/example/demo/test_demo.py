"""``manage.py demo`` as people run it."""

import json
import signal
import time
from typing import Any

import pytest

from example_project.theatre.demo.slow_scenarios import SLOW_SCENARIOS
from example_project.theatre.demo.webhook_scenarios import WEBHOOK_SCENARIOS
from tests.example.demo.commands import processes_with, start, temporary_folder

pytestmark = pytest.mark.timeout(300)

ENDPOINTS = ["naive", "view", "drf", "leased"]


def play(*arguments: str) -> tuple[int, dict[str, Any]]:
    """Play it to the end; its exit status and its one JSON object."""
    with start("--format", "json", *arguments) as demo:
        output, errors = demo.communicate(timeout=240)
    assert output.count("\n") == 1, errors
    result: dict[str, Any] = json.loads(output)
    return demo.returncode, result


def rows_of(result: dict[str, Any], endpoint: str) -> list[dict[str, Any]]:
    return [row for row in result["scenarios"] if row["endpoint"] == endpoint]


def test_protection_holds_and_the_naive_checkout_does_not() -> None:
    status, result = play()

    wrong = [row for row in result["scenarios"] if not row["ok"]]
    assert [row for row in wrong if row["endpoint"] != "naive"] == []
    assert (status, result["ok"]) == (0, True)
    names = {each: [row["name"] for row in rows_of(result, each)] for each in ENDPOINTS}
    checkouts = names["view"][:8]
    webhooks = [each.name for each in WEBHOOK_SCENARIOS]
    slow = [each.name for each in SLOW_SCENARIOS]
    assert names["view"] == names["drf"] == checkouts + webhooks
    assert names["leased"] == checkouts + slow
    assert names["naive"] == checkouts + webhooks + slow
    for endpoint in ("view", "drf", "leased"):
        rows = rows_of(result, endpoint)
        assert all(row["ok"] for row in rows)
        for row in rows:
            assert row["orders"] == row["charges"] == row["mails"]
        # Two orders only where two customers wanted one each.
        assert sorted(row["orders"] for row in rows[:8]) == [1] * 7 + [2]
        assert {row["server_errors"] for row in rows[:8]} == {0}
        assert {row["handled"] for row in rows[:8]} == {None}
        (storm,) = (row for row in rows if row["requests"] == 64)
        assert (storm["orders"], storm["distinct_answers"]) == (1, 1)
    for endpoint in ("view", "drf"):
        rows = rows_of(result, endpoint)[8:]
        assert [row["handled"] for row in rows] == [1, 1, 1, 1, 1, 2, 3]
        # Answers that are meant to bring the provider back, and no others.
        assert [row["server_errors"] for row in rows] == [0, 1, 0, 0, 1, 0, 1]
    rows = rows_of(result, "leased")[8:]
    assert [row["orders"] for row in rows] == [4, 1, 2, 1]
    # Where the provider's answer was lost, the customer is told to send again.
    assert [row["server_errors"] for row in rows] == [0, 1, 1, 0]
    assert not any(row["ok"] for row in rows_of(result, "naive"))
    (storm,) = (row for row in rows_of(result, "naive") if row["requests"] == 64)
    assert storm["charges"] > 12
    copies, *others = (row["handled"] for row in rows_of(result, "naive")[8:15])
    assert copies > 1
    assert others == [0, 0, 2, 0, 1, 2]
    rows = rows_of(result, "naive")[15:]
    assert [row["charges"] for row in rows] == [6, 2, 3, 1]
    assert [row["mails"] for row in rows] == [3, 1, 2, 2]


def test_without_protection_it_fails() -> None:
    status, result = play("--unprotected")

    assert (status, result["ok"]) == (1, False)
    for endpoint in ("view", "drf", "leased"):
        assert not any(row["ok"] for row in rows_of(result, endpoint))
    # A mail that is sent twice is the task's doing, not the view's.
    *payments, mail = rows_of(result, "leased")[8:]
    assert all(row["charges"] > row["orders"] for row in payments)
    assert (mail["orders"], mail["mails"]) == (1, 2)
    for endpoint in ("view", "drf"):
        (killed,) = (
            row for row in rows_of(result, endpoint) if "killed after" in row["name"]
        )
        assert killed["charges"] == 2
        copies, *others = (row["handled"] for row in rows_of(result, endpoint)[8:])
        assert copies > 1
        assert others == [0, 0, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGTERM, "Starting PostgreSQL"),
        (signal.SIGHUP, "Creating tables"),
        (signal.SIGTERM, "Starting the shop"),
        (signal.SIGINT, "64 copies"),
        (signal.SIGTERM, "handler fails once"),  # while the slow ones are played too
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_signal_leaves_nothing_behind(number: signal.Signals, step: str) -> None:
    with temporary_folder() as folder, start(TMPDIR=str(folder)) as demo:
        assert demo.stderr is not None
        while step not in demo.stderr.readline():
            pass
        time.sleep(0.3)  # into the step, at no special place
        demo.send_signal(number)
        demo.communicate(timeout=100)

        assert demo.returncode == 128 + number
        assert processes_with(folder) == []
        assert list(folder.iterdir()) == []
