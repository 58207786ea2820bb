"""An operator lets an event run again."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models.functions import Now

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import NotReady, PermanentError
from django_idempotency.webhooks.inbox import Step, process_next, reopen, rerun
from tests.integration.webhooks.receivers import marks, only, scene, states, steps
from tests.support.deliveries import deliver, stripe
from tests.testapp.models import Order

pytestmark = marks


def bury(path: str = "/inline/") -> ProcessedEvent:
    """Let an event die, and return it."""
    scene.failures.append(PermanentError())
    deliver(path, stripe())
    process_next()
    assert states() == {"evt_1": "dead"}
    return only()


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_dead_event_runs_once_more_and_is_a_duplicate_again(path: str) -> None:
    """FR-097: however long ago it was buried."""
    event = bury(path)
    ProcessedEvent.objects.update(expires_at=Now() - timedelta(days=1))

    assert rerun(event, reason="the bug is fixed", by="anna") is Step.PROCESSED
    for _ in range(2):
        assert deliver(path, stripe()).status_code == 200
    assert process_next() is Step.NOTHING_DUE
    assert Order.objects.count() == 1
    assert [event.attempt for event in scene.events] == [1, 2]
    event = only()
    assert (event.state, event.attempts, event.payload) == ("processed", 2, None)
    (run,) = event.reruns
    assert (run["by"], run["reason"]) == ("anna", "the bug is fixed")
    assert run["at"]


@pytest.mark.parametrize("path", ["/payments/", "/stored-payments/"])
def test_ignored_event_runs_once_there_is_a_handler(path: str) -> None:  # F11
    deliver(path, stripe(type="other"))
    steps()
    assert (only().state, only().payload is None) == ("ignored", False)
    assert rerun(only(), reason="still none") is Step.IGNORED

    ProcessedEvent.objects.update(payload=stripe().body)
    assert rerun(only(), reason="now there is one") is Step.PROCESSED
    assert len(only().reruns) == 2
    assert Order.objects.count() == 1


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_processed_event_runs_with_the_next_delivery(path: str) -> None:  # FR-097
    deliver(path, stripe())
    steps()

    reopen(only(), reason="the order was lost")
    assert (only().state, steps(), Order.objects.count()) == ("reopened", [], 1)
    for _ in range(3):
        assert deliver(path, stripe()).status_code == 200
        steps()
    assert Order.objects.count() == 2
    assert [run["reason"] for run in only().reruns] == ["the order was lost"]


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
@pytest.mark.parametrize("error", [ValueError, NotReady, PermanentError])
def test_event_failing_again_is_dead_again(path: str, error: type[Exception]) -> None:
    """Never pending: an inline receiver has no worker, and would be told 200."""
    seen = bury(path)
    scene.failures.append(error())

    assert rerun(seen, reason="try") is Step.DEAD
    event = only()
    assert (event.state, event.next_attempt_at) == ("dead", None)
    assert event.payload is not None
    assert len(event.reruns) == 1
    assert Order.objects.count() == 0
    assert rerun(event, reason="try harder") is Step.PROCESSED
    assert len(only().reruns) == 2


def test_event_in_the_inbox_is_tried_anyway() -> None:
    deliver("/inbox/", stripe())

    for act in (rerun, reopen):
        with pytest.raises(ValueError, match="tried anyway"):
            act(only(), reason="impatience")
    assert only().reruns == []


def test_event_without_payload_is_left_to_the_provider() -> None:
    scene.failures.append(ValueError())
    deliver("/inline/", stripe())

    for act in (rerun, reopen):
        with pytest.raises(ValueError, match="next delivery runs it anyway"):
            act(only(), reason="impatience")
    assert (only().state, only().reruns) == ("failed", [])


def test_reason_is_required() -> None:
    event = bury()
    for reason in ("", "  "):
        with pytest.raises(ValueError, match="Say why"):
            rerun(event, reason=reason)
    with pytest.raises(CommandError, match="Say why"):
        call_command("process_events", rerun=event.pk, seen=event.seen)
    assert only().reruns == []
    with pytest.raises(CommandError, match="does not exist"):
        call_command("process_events", rerun=uuid.uuid4(), reason="r")


def test_id_in_place_of_what_was_seen_is_refused() -> None:
    event: Any = bury().pk
    for act in (rerun, reopen):
        with pytest.raises(TypeError, match="the event that was looked at"):
            act(event, reason="r")


def test_rerun_inside_a_transaction_is_refused() -> None:
    event = bury()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        rerun(event, reason="r")


def test_command_runs_one_event_again(capsys: pytest.CaptureFixture[str]) -> None:
    event = bury()
    call_command(
        "process_events", rerun=event.pk, seen=event.seen, reason="the bug is fixed"
    )

    assert capsys.readouterr().out == f"{event.pk}: processed\n"
    assert only().reruns[0]["by"] == "process_events"
