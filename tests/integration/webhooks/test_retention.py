"""How long an event is recognised, and what is never deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core.management import call_command

from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import PermanentError
from django_idempotency.webhooks.inbox import Step, process_next
from tests.deliveries import deliver, stripe
from tests.integration.webhooks.events import let_expire, only, states
from tests.integration.webhooks.receivers import scene
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.webhooks.receivers"),
]


def purge(capsys: pytest.CaptureFixture[str]) -> str:
    call_command("purge_idempotency_keys")
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("days", "orders", "purged"), [(3, 1, 0), (31, 1, 0), (36, 2, 1)]
)
def test_event_is_recognised_for_longer_than_any_provider_repeats_it(
    days: int, orders: int, purged: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """FR-074, F43"""
    deliver("/inline/", stripe())
    let_expire(after=timedelta(days=days))

    assert purge(capsys) == (
        f"Purged 0 idempotency records, {purged} processed events.\n"
    )
    assert deliver("/inline/", stripe()).status_code == 200
    assert Order.objects.count() == orders


@pytest.mark.parametrize("path", ["/inline/", "/inbox/"])
def test_expired_event_begins_a_new_life_without_a_purge(path: str) -> None:
    deliver(path, stripe())
    process_next()
    ProcessedEvent.objects.update(attempts=7, last_error="OldError", reruns=["old"])
    let_expire(after=timedelta(days=36))

    assert deliver(path, stripe(created=1)).status_code == 200
    process_next()
    event = only()
    assert (event.state, event.attempts, event.last_error) == ("processed", 1, "")
    assert event.reruns == []
    assert event.occurred_at is not None
    assert event.occurred_at.year == 1970
    assert event.expires_at - event.received_at > timedelta(days=34)


def test_what_is_not_done_is_never_purged(capsys: pytest.CaptureFixture[str]) -> None:
    deliver("/inbox/", stripe("waiting"))
    scene.failures.append(PermanentError())
    deliver("/inline/", stripe("dead"))
    let_expire(after=timedelta(days=400))

    assert purge(capsys) == "Purged 0 idempotency records, 0 processed events.\n"
    assert states() == {"waiting": "received", "dead": "dead"}


def test_dead_event_is_a_duplicate_however_old_it_is() -> None:
    """Its payload waits for a person; a new delivery must not take its place."""
    scene.failures.append(PermanentError())
    deliver("/inline/", stripe())
    let_expire(after=timedelta(days=400))

    assert deliver("/inline/", stripe()).status_code == 200
    assert states() == {"evt_1": "dead"}
    assert len(scene.events) == 1


def test_undone_event_is_done_however_old_it_is() -> None:
    deliver("/inbox/", stripe())
    let_expire(after=timedelta(days=400))

    assert process_next() is Step.PROCESSED
