"""Stored deliveries and the step that handles one."""

import logging
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, NotReady, PermanentError
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS
from django_idempotency.webhooks.inbox import FIRST_RETRY, LONGEST_RETRY, Step
from django_idempotency.webhooks.inbox import process_next as step
from tests.integration.webhooks.receivers import (
    make_due,
    marks,
    only,
    scene,
    states,
    steps,
)
from tests.support.cases import cases
from tests.support.deliveries import deliver, github, stripe
from tests.support.threads import second_connection
from tests.testapp.models import Order

pytestmark = marks


def until_next_attempt() -> timedelta:
    next_attempt_at = only().next_attempt_at
    assert next_attempt_at is not None
    return next_attempt_at - timezone.now()


@pytest.mark.parametrize("path", ["/inbox/", "/rest-inbox/"])
def test_stored_event_is_acknowledged_at_once_and_handled_once(path: str) -> None:
    sent = stripe()
    for _ in range(3):
        assert deliver(path, sent).status_code == 200

    event = only()
    assert (event.state, event.attempts) == ("received", 0)
    assert bytes(event.payload or b"") == sent.body
    assert scene.events == []
    assert steps() == [Step.PROCESSED]
    event = only()
    assert (event.state, event.attempts, event.payload) == ("processed", 1, None)
    assert event.next_attempt_at is None
    assert deliver(path, stripe()).status_code == 200
    assert steps() == []
    assert Order.objects.count() == 1


def test_handler_gets_the_same_event_as_inline() -> None:
    sent = stripe(account="acct_1", data={"object": {"id": "in_1", "text": "\0é"}})
    for path in ("/inline/", "/inbox/"):
        deliver(path, sent)
    steps()

    inline, stored = scene.events
    for name in ("id", "type", "source", "account", "object_key", "occurred_at", "raw"):
        assert getattr(stored, name) == getattr(inline, name)
    assert stored.data == inline.data
    assert stored.attempt == 1


def test_headers_that_tell_of_the_event_are_kept_and_signatures_are_not() -> None:
    deliver("/github/", github("guid-1", hook="7"))

    assert only().headers == {
        "X-GitHub-Delivery": "guid-1",
        "X-GitHub-Event": "push",
        "X-GitHub-Hook-ID": "7",
    }
    assert steps() == [Step.PROCESSED]
    (event,) = scene.events
    assert (event.id, event.type, event.account) == ("guid-1", "push", "7")


def test_failure_is_tried_again_later() -> None:
    scene.failures.append(ValueError())
    deliver("/inbox/", stripe())

    assert steps() == [Step.FAILED]
    event = only()
    assert (event.state, event.last_error) == ("failed", "builtins.ValueError")
    assert event.payload is not None
    assert timedelta(0) < until_next_attempt() < FIRST_RETRY * 2
    assert Order.objects.count() == 0
    # It is in the inbox: nobody has to send it again.
    assert deliver("/inbox/", stripe()).status_code == 200

    make_due()
    assert steps() == [Step.PROCESSED]
    assert [event.attempt for event in scene.events] == [1, 2]
    assert Order.objects.count() == 1


def test_delay_grows_and_has_an_end() -> None:
    deliver("/inbox/", stripe())
    longest = []
    for attempts in (0, 5, 13):
        ProcessedEvent.objects.update(attempts=attempts)
        delays = []
        for _ in range(10):
            scene.failures.append(ValueError())
            make_due()
            step()
            delays.append(until_next_attempt())
            ProcessedEvent.objects.update(attempts=attempts)
        assert len(set(delays)) > 1  # jitter
        longest.append(max(delays))

    assert longest == sorted(longest)
    assert longest[-1] <= LONGEST_RETRY


def test_event_that_is_not_ready_waits_as_long_as_it_asks() -> None:  # F14
    scene.failures.append(NotReady(after=timedelta(minutes=5)))
    deliver("/inbox/", stripe())

    assert steps() == [Step.FAILED]
    assert timedelta(minutes=4) < until_next_attempt() <= timedelta(minutes=5)
    make_due()
    assert steps() == [Step.PROCESSED]
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    ("error", "attempts"), [(ValueError, 2), (NotReady, 2), (PermanentError, 1)]
)
def test_event_is_given_up_after_its_attempts(error: Any, attempts: int) -> None:
    """F9, and F10: at once if nothing else will help."""
    scene.failures.extend(error() for _ in range(3))
    deliver("/limited-inbox/", stripe())

    for _ in range(1, attempts):
        assert step() is Step.FAILED
        make_due()
    assert step() is Step.DEAD
    event = only()
    assert (event.state, event.attempts) == ("dead", attempts)
    assert event.next_attempt_at is None
    assert event.payload is not None
    assert deliver("/limited-inbox/", stripe()).status_code == 200
    assert steps() == []
    assert len(scene.events) == attempts


@cases(
    "columns",
    {
        # What is committed before the handler runs, fifteen times.
        "killed its worker each time": {"attempts": DEFAULT_MAX_ATTEMPTS},
        "not in its payload": {"payload": stripe("evt_2").body},
    },
)
def test_event_is_given_up_unseen(columns: dict[str, Any]) -> None:
    deliver("/inbox/", stripe())
    ProcessedEvent.objects.update(**columns)

    assert steps() == [Step.DEAD]
    assert scene.events == []


@pytest.mark.postgresql
def test_attempt_is_counted_before_the_handler_runs() -> None:
    counted = []

    def look_from_another_session(event: Event) -> None:
        with second_connection() as other, other.cursor() as cursor:
            cursor.execute(
                "SELECT attempts, next_attempt_at > clock_timestamp()"
                " FROM django_idempotency_processedevent"
            )
            counted.append(cursor.fetchone())

    scene.act = look_from_another_session
    deliver("/inbox/", stripe())
    assert step() is Step.PROCESSED
    assert counted == [(1, True)]


def test_event_of_a_receiver_that_is_gone_is_tried_again() -> None:
    """As between two releases; it isn't lost, and it doesn't stop the others."""
    deliver("/inbox/", stripe("evt_1"))
    ProcessedEvent.objects.update(endpoint="renamed")
    deliver("/inbox/", stripe("evt_2"))

    assert sorted(each.name for each in steps()) == ["FAILED", "PROCESSED"]
    assert states() == {"evt_1": "failed", "evt_2": "processed"}
    event = ProcessedEvent.objects.get(event_id="evt_1")
    assert (event.state, event.last_error) == ("failed", "builtins.LookupError")
    assert event.payload is not None


def test_last_failure_doesnt_give_up_what_another_worker_has_finished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is done while this one writes to the log that it failed."""

    def finish(record: logging.LogRecord) -> bool:
        ProcessedEvent.objects.update(
            state="processed", payload=None, next_attempt_at=None
        )
        return True

    scene.failures.append(ValueError())
    deliver("/limited-inbox/", stripe())
    ProcessedEvent.objects.update(attempts=1)  # of two
    monkeypatch.setattr(logging.getLogger("django_idempotency"), "filters", [finish])

    assert step() is Step.TAKEN
    assert states() == {"evt_1": "processed"}
    assert only().last_error == ""


def test_step_inside_a_transaction_is_refused() -> None:
    deliver("/inbox/", stripe())
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        step()
    assert only().attempts == 0


@pytest.mark.django_db(transaction=False)
def test_step_works_inside_a_test_case() -> None:
    deliver("/inbox/", stripe())

    assert steps() == [Step.PROCESSED]
    assert Order.objects.count() == 1


def test_events_of_an_object_keep_their_order() -> None:  # F42
    deliver("/ordered/", stripe("evt_1"))
    deliver("/ordered/", stripe("evt_2"))
    deliver("/ordered/", stripe("evt_3", data={"object": {"id": "in_2"}}))
    scene.failures.append(ValueError())

    assert step() is Step.FAILED
    assert steps() == [Step.PROCESSED]
    assert scene.handled == ["evt_1", "evt_3"]
    make_due()
    assert steps() == [Step.PROCESSED, Step.PROCESSED]
    assert scene.handled == ["evt_1", "evt_3", "evt_1", "evt_2"]


@cases(
    "path, error, taken",
    {
        "F42 dead": ("/ordered/", PermanentError(), [Step.DEAD, Step.PROCESSED]),
        "unordered": ("/inbox/", ValueError(), [Step.FAILED, Step.PROCESSED]),
    },
)
def test_event_holds_up_no_other(path: str, error: Exception, taken: Any) -> None:
    for event_id in ("evt_1", "evt_2"):
        deliver(path, stripe(event_id))
    scene.failures.append(error)

    assert steps() == taken


def test_what_has_waited_longest_comes_first() -> None:
    for number in range(4):
        deliver("/inbox/", stripe(f"evt_{number}"))
    ProcessedEvent.objects.filter(event_id="evt_2").update(
        next_attempt_at=Now() - timedelta(hours=1)
    )
    steps()
    assert scene.handled == ["evt_2", "evt_0", "evt_1", "evt_3"]


def test_inline_delivery_leaves_an_event_to_the_inbox() -> None:
    """The receiver was an inbox yesterday: what is stored there is safe."""
    deliver("/inline/", stripe())
    inline = only()
    ProcessedEvent.objects.all().delete()
    scene.reset()
    deliver("/inbox/", stripe())
    ProcessedEvent.objects.update(id=inline.pk, endpoint=inline.endpoint)

    assert deliver("/inline/", stripe()).status_code == 200
    assert scene.events == []
    assert steps() == [Step.PROCESSED]
