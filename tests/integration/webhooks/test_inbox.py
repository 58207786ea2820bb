"""Stored deliveries and the step that handles one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import Event, NotReady, PermanentError
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS
from django_idempotency.webhooks.inbox import FIRST_RETRY, LONGEST_RETRY, Step
from django_idempotency.webhooks.inbox import process_next as step
from tests.deliveries import deliver, github, stripe
from tests.integration.webhooks.events import make_due, only, states
from tests.integration.webhooks.receivers import scene
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.webhooks.receivers"),
]


def steps() -> list[Step]:
    """Take steps until nothing is due."""
    taken: list[Step] = []
    while (one := step()) is not Step.NOTHING_DUE:
        taken.append(one)
    return taken


def until_next_attempt() -> timedelta:
    next_attempt_at = only().next_attempt_at
    assert next_attempt_at is not None
    return next_attempt_at - timezone.now()


def test_delivery_is_stored_and_acknowledged_before_it_is_handled() -> None:
    sent = stripe()
    assert deliver("/inbox/", sent).status_code == 200

    event = only()
    assert (event.state, event.attempts) == ("received", 0)
    assert bytes(event.payload or b"") == sent.body
    assert scene.events == []


def test_stored_event_is_handled_once() -> None:
    for _ in range(3):
        assert deliver("/inbox/", stripe()).status_code == 200

    assert steps() == [Step.PROCESSED]
    event = only()
    assert (event.state, event.attempts, event.payload) == ("processed", 1, None)
    assert event.next_attempt_at is None
    assert deliver("/inbox/", stripe()).status_code == 200
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


@pytest.mark.parametrize("error", [ValueError, NotReady])
def test_event_is_given_up_after_its_attempts(error: Any) -> None:  # F9
    scene.failures.extend(error() for _ in range(3))
    deliver("/limited-inbox/", stripe())

    assert step() is Step.FAILED
    make_due()
    assert step() is Step.DEAD
    event = only()
    assert (event.state, event.attempts, event.next_attempt_at) == ("dead", 2, None)
    assert event.payload is not None
    assert deliver("/limited-inbox/", stripe()).status_code == 200
    assert steps() == []
    assert len(scene.events) == 2


def test_permanent_error_is_given_up_at_once() -> None:  # F10
    scene.failures.append(PermanentError())
    deliver("/inbox/", stripe())

    assert steps() == [Step.DEAD]
    assert states() == {"evt_1": "dead"}
    assert only().payload is not None


def test_event_that_killed_its_worker_each_time_is_given_up_unseen() -> None:
    deliver("/inbox/", stripe())
    # What is committed before the handler runs, fifteen times.
    ProcessedEvent.objects.update(attempts=DEFAULT_MAX_ATTEMPTS)

    assert step() is Step.DEAD
    assert scene.events == []


@pytest.mark.postgresql
def test_attempt_is_counted_before_the_handler_runs() -> None:
    counted = []

    def look_from_another_session(event: Event) -> None:
        other = connection.copy()
        try:
            with other.cursor() as cursor:
                cursor.execute(
                    "SELECT attempts, next_attempt_at > clock_timestamp()"
                    " FROM django_idempotency_processedevent"
                )
                counted.append(cursor.fetchone())
        finally:
            other.close()

    scene.act = look_from_another_session
    deliver("/inbox/", stripe())
    assert step() is Step.PROCESSED
    assert counted == [(1, True)]


def test_type_without_a_handler_is_kept_as_ignored() -> None:
    deliver("/stored-payments/", stripe(type="other"))

    assert steps() == [Step.IGNORED]
    event = only()
    assert event.state == "ignored"
    assert event.payload is not None


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


def test_event_that_is_not_in_its_payload_is_given_up() -> None:
    deliver("/inbox/", stripe())
    ProcessedEvent.objects.update(payload=stripe("evt_2").body)

    assert steps() == [Step.DEAD]
    assert scene.events == []


def test_error_of_a_callback_after_the_commit_fails_nothing() -> None:
    scene.act = lambda event: transaction.on_commit(lambda: 1 / 0)
    deliver("/inbox/", stripe())

    assert steps() == [Step.PROCESSED]
    assert states() == {"evt_1": "processed"}
    assert Order.objects.count() == 1


@pytest.mark.parametrize("error", [NotReady, PermanentError])
def test_callback_after_the_commit_cant_undo_the_event(error: Any) -> None:
    def raise_it() -> None:
        raise error

    scene.act = lambda event: transaction.on_commit(raise_it)
    deliver("/inbox/", stripe())

    assert steps() == [Step.PROCESSED]
    assert states() == {"evt_1": "processed"}


def test_handler_that_breaks_its_transaction_has_failed() -> None:
    scene.act = lambda event: transaction.set_rollback(True)
    deliver("/inbox/", stripe())

    assert steps() == [Step.FAILED]
    assert Order.objects.count() == 0


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


def test_dead_event_holds_up_no_other_of_its_object() -> None:  # F42
    deliver("/ordered/", stripe("evt_1"))
    deliver("/ordered/", stripe("evt_2"))
    scene.failures.append(PermanentError())

    assert steps() == [Step.DEAD, Step.PROCESSED]


def test_unordered_events_of_an_object_pass_each_other() -> None:
    deliver("/inbox/", stripe("evt_1"))
    deliver("/inbox/", stripe("evt_2"))
    scene.failures.append(ValueError())

    assert steps() == [Step.FAILED, Step.PROCESSED]


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
    scene.failures.append(ValueError())
    deliver("/inbox/", stripe())
    steps()
    stored = only()
    deliver("/inline/", stripe())
    inline = ProcessedEvent.objects.get(endpoint="tested-inline")
    inline.delete()
    ProcessedEvent.objects.filter(pk=stored.pk).update(
        id=scene.events[-1].row_id, endpoint="tested-inline"
    )
    scene.reset()

    assert deliver("/inline/", stripe()).status_code == 200
    assert scene.events == []
    make_due()
    assert steps() == [Step.PROCESSED]


def test_old_event_that_is_not_done_is_still_in_the_inbox() -> None:
    deliver("/inbox/", stripe())
    ProcessedEvent.objects.update(expires_at=F("expires_at") - timedelta(days=60))

    assert deliver("/inbox/", stripe()).status_code == 200
    assert steps() == [Step.PROCESSED]
    assert Order.objects.count() == 1
