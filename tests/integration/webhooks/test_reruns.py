"""An operator lets an event run again."""

import uuid
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models.functions import Now

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import NotReady, PermanentError
from django_idempotency.webhooks.inbox import Step, process_next, rerun
from tests.integration.webhooks.receivers import marks, only, scene, states, steps
from tests.support.deliveries import deliver, stripe
from tests.testapp.models import Order

pytestmark = marks


def bury(path: str = "/inline/") -> uuid.UUID:
    """Let an event die, and return its id."""
    scene.failures.append(PermanentError())
    deliver(path, stripe())
    process_next()
    assert states() == {"evt_1": "dead"}
    return only().pk


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_dead_event_runs_once_more_and_is_a_duplicate_again(path: str) -> None:
    """FR-097: however long ago it was buried."""
    row_id = bury(path)
    ProcessedEvent.objects.update(expires_at=Now() - timedelta(days=1))

    assert rerun(row_id, reason="the bug is fixed", by="anna") is Step.PROCESSED
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
    row_id = only().pk
    assert (only().state, only().payload is None) == ("ignored", False)
    assert rerun(row_id, reason="still none") is Step.IGNORED

    ProcessedEvent.objects.update(payload=stripe().body)
    assert rerun(row_id, reason="now there is one") is Step.PROCESSED
    assert len(only().reruns) == 2
    assert Order.objects.count() == 1


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_processed_event_runs_with_the_next_delivery(path: str) -> None:  # FR-097
    deliver(path, stripe())
    steps()

    assert rerun(only().pk, reason="the order was lost") is Step.REOPENED
    assert (steps(), Order.objects.count()) == ([], 1)
    assert [run["reason"] for run in only().reruns] == ["the order was lost"]
    for _ in range(3):
        assert deliver(path, stripe()).status_code == 200
        steps()
    assert Order.objects.count() == 2
    assert path == "/inbox/" or len(only().reruns) == 1


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
@pytest.mark.parametrize("error", [ValueError, NotReady, PermanentError])
def test_event_failing_again_is_dead_again(path: str, error: type[Exception]) -> None:
    """Never pending: an inline receiver has no worker, and would be told 200."""
    row_id = bury(path)
    scene.failures.append(error())

    assert rerun(row_id, reason="try") is Step.DEAD
    event = only()
    assert (event.state, event.next_attempt_at) == ("dead", None)
    assert event.payload is not None
    assert len(event.reruns) == 1
    assert Order.objects.count() == 0
    assert rerun(row_id, reason="try harder") is Step.PROCESSED
    assert len(only().reruns) == 2


def test_event_in_the_inbox_is_tried_anyway() -> None:
    deliver("/inbox/", stripe())

    with pytest.raises(ValueError, match="tried anyway"):
        rerun(only().pk, reason="impatience")
    assert only().reruns == []


def test_reason_is_required() -> None:
    row_id = bury()
    for reason in ("", "  "):
        with pytest.raises(ValueError, match="Say why"):
            rerun(row_id, reason=reason)
    with pytest.raises(CommandError, match="Say why"):
        call_command("process_events", rerun=row_id)
    assert only().reruns == []
    with pytest.raises(CommandError, match="does not exist"):
        call_command("process_events", rerun=uuid.uuid4(), reason="r")


def test_rerun_inside_a_transaction_is_refused() -> None:
    row_id = bury()
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        rerun(row_id, reason="r")


def test_command_runs_one_event_again(capsys: pytest.CaptureFixture[str]) -> None:
    row_id = bury()
    call_command("process_events", rerun=row_id, reason="the bug is fixed")

    assert capsys.readouterr().out == f"{row_id}: processed\n"
    assert only().reruns[0]["by"] == "process_events"
