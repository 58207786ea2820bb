"""Workers that are killed, or told to stop."""

from __future__ import annotations

import json
import signal

import pytest
from django.db.models import Q
from django.db.models.functions import Now

from django_idempotency.models import ProcessedEvent
from tests.concurrency.storm import (
    AT_THE_GATE,
    TIMEOUT,
    gate_closed,
    until,
    until_waiting,
)
from tests.concurrency.webhooks.processes import process, worker
from tests.concurrency.webhooks.receivers import LETHAL
from tests.deliveries import deliver, stripe
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.concurrency,
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.webhooks.receivers"),
]

DELIVER = ("-m", "tests.concurrency.webhooks.deliver")


def handled() -> list[int]:
    return list(Order.objects.order_by("amount").values_list("amount", flat=True))


def due() -> int:
    """Make what waits due, and return how much it is."""
    waiting = ProcessedEvent.objects.exclude(next_attempt_at=None)
    return waiting.update(next_attempt_at=Now())


def test_redelivery_runs_what_a_killed_process_had_begun() -> None:  # F41
    """Killed in its handler, after the order and before the commit."""
    with process(*DELIVER, "/inline/", "evt_1", LETHAL) as doomed:
        assert doomed.wait(TIMEOUT) == -signal.SIGKILL

    assert not Order.objects.exists()
    assert deliver("/inline/", stripe()).status_code == 200
    assert deliver("/inline/", stripe()).status_code == 200
    assert handled() == [1]


def test_waiting_copy_takes_over_from_a_killed_process() -> None:
    with gate_closed() as gate, process(*DELIVER, "/inline/", "evt_1", "x") as doomed:
        until_waiting(1, AT_THE_GATE)
        doomed.kill()
        doomed.wait(TIMEOUT)
        gate.open()
        assert deliver("/inline/", stripe()).status_code == 200
    assert handled() == [1]


def test_another_worker_takes_what_a_killed_one_had_begun() -> None:  # F41
    deliver("/inbox/", stripe())
    with gate_closed() as gate:
        with worker() as doomed:
            until_waiting(1, AT_THE_GATE)
            doomed.kill()
            doomed.wait(TIMEOUT)
        gate.open()
    event = ProcessedEvent.objects.get()
    assert (event.state, event.attempts) == ("received", 1)

    with worker():
        until(lambda: due() == 0)
    event = ProcessedEvent.objects.get()
    assert (event.state, event.attempts) == ("processed", 2)
    assert handled() == [1]


def test_event_that_kills_its_worker_dies_and_the_others_flow() -> None:
    deliver("/short-lived/", stripe("evt_0", type=LETHAL))
    for number in range(1, 6):
        deliver("/short-lived/", stripe(f"evt_{number}"))
    deaths = 0
    while due():
        with worker("--until-empty") as one:
            deaths += one.wait(TIMEOUT) == -signal.SIGKILL

    assert deaths == 3
    assert handled() == [1, 2, 3, 4, 5]
    event = ProcessedEvent.objects.get(event_id="evt_0")
    assert (event.state, event.payload is not None) == ("dead", True)


def test_worker_stops_cleanly_on_sigterm() -> None:
    """It finishes the event at hand, begins no other, and ends with 0."""
    for number in range(3):
        deliver("/inbox/", stripe(f"evt_{number}"))
    with gate_closed() as gate, worker() as stopped:
        until_waiting(1, AT_THE_GATE)
        stopped.terminate()
        gate.open()
        assert stopped.wait(TIMEOUT) == 0
        assert stopped.stdout is not None
        assert stopped.stdout.read() == "Handled 1 processed.\n"

    assert len(handled()) == 1
    waiting = ProcessedEvent.objects.filter(~Q(state="processed"))
    assert [event.attempts for event in waiting] == [0, 0]


def test_idle_worker_stops_at_once_on_sigterm() -> None:
    with process("-m", "django", "process_events", "--poll-seconds=600") as stopped:
        deliver("/inbox/", stripe())
        until(lambda: ProcessedEvent.objects.filter(state="processed").exists())
        stopped.terminate()
        assert stopped.wait(TIMEOUT) == 0


def test_kills_at_random_points_lose_nothing_and_repeat_nothing() -> None:
    """A short campaign; the long one is run by hand."""
    campaign = "tests.concurrency.webhooks.campaign"
    with process("-m", campaign, "--kills=20", "--seed=1", "--json") as run:
        output, errors = run.communicate(timeout=110)
    assert run.returncode == 0, errors
    result = json.loads(output)
    assert result["kills"] == 20
    assert result["events"] == result["handled_once"] > 0
    assert (result["handled_again"], result["lost"], result["dead"]) == (0, 0, 0)
