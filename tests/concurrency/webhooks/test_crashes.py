"""Workers that are killed, or told to stop."""

import signal
from contextlib import AbstractContextManager

import pytest
from django.db.models import Q
from django.db.models.functions import Now

from django_idempotency.models import ProcessedEvent
from tests.concurrency.webhooks.receivers import LETHAL
from tests.support.deliveries import deliver, stripe
from tests.support.programs import Process, running
from tests.support.threads import (
    AT_THE_GATE,
    TIMEOUT,
    gate_closed,
    until,
    until_waiting,
)
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.concurrency.webhooks.receivers"),
]

SETTINGS = {"DJANGO_SETTINGS_MODULE": "tests.concurrency.webhooks.settings"}
DELIVER = """
import django; django.setup()
from tests.support.deliveries import deliver, stripe
deliver("/inline/", stripe())
"""


def worker(*options: str) -> AbstractContextManager[Process]:
    """Run ``manage.py process_events``."""
    return running("-m", "django", "process_events", *options, **SETTINGS)


def handled() -> list[int]:
    return list(Order.objects.order_by("amount").values_list("amount", flat=True))


def due() -> int:
    """Make what waits due, and return how much it is."""
    waiting = ProcessedEvent.objects.exclude(next_attempt_at=None)
    return waiting.update(next_attempt_at=Now())


def test_waiting_copy_takes_over_from_a_killed_process() -> None:  # F41
    with gate_closed() as gate, running("-c", DELIVER, **SETTINGS) as doomed:
        until_waiting(1, AT_THE_GATE)
        doomed.kill()
        doomed.wait(TIMEOUT)
        gate.open()
        assert deliver("/inline/", stripe()).status_code == 200
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
    with worker("--poll-seconds=600") as stopped:
        deliver("/inbox/", stripe())
        until(lambda: ProcessedEvent.objects.filter(state="processed").exists())
        stopped.terminate()
        assert stopped.wait(TIMEOUT) == 0
