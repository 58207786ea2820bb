"""What is told of an event, and that it is told after the fact."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.dispatch import Signal

from django_idempotency import signals
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import NotReady, PermanentError
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS
from django_idempotency.webhooks.inbox import process_next, rerun
from tests.integration.webhooks.receivers import make_due, marks, only, scene
from tests.support.cases import cases
from tests.support.deliveries import SECRET, deliver, stripe

pytestmark = marks

NAMES = ("event_processed", "event_duplicate", "event_failed", "event_dead")


@pytest.fixture
def told() -> Iterator[list[tuple[str, str, bool]]]:
    """Name of the signal, the event's id, and whether a transaction was open."""
    heard: list[tuple[str, str, bool]] = []
    names = {getattr(signals, name): name for name in NAMES}

    def listen(signal: Signal, sender: Any, event: Any, **more: Any) -> None:
        assert sender is ProcessedEvent
        heard.append((names[signal], event.id, connection.in_atomic_block))

    for signal in names:
        signal.connect(listen)
    yield heard
    for signal in names:
        signal.disconnect(listen)


def test_inline_event_is_told_after_its_commit(told: list[Any]) -> None:
    scene.failures.extend([ValueError(), NotReady(), PermanentError()])
    for event_id in ("evt_1", "evt_2", "evt_3", "evt_1", "evt_1"):
        deliver("/inline/", stripe(event_id))
    rerun(ProcessedEvent.objects.get(event_id="evt_3"), reason="r")

    assert told == [
        ("event_failed", "evt_1", False),
        ("event_failed", "evt_2", False),
        ("event_dead", "evt_3", False),
        ("event_processed", "evt_1", False),
        ("event_duplicate", "evt_1", False),
        ("event_processed", "evt_3", False),
    ]


def test_stored_event_is_told_after_its_commit(told: list[Any]) -> None:
    scene.failures.extend([ValueError(), PermanentError()])
    for event_id in ("evt_1", "evt_2", "evt_2"):
        deliver("/inbox/", stripe(event_id))
    process_next()
    process_next()
    make_due()
    process_next()

    assert told == [
        ("event_duplicate", "evt_2", False),
        ("event_failed", "evt_1", False),
        ("event_dead", "evt_2", False),
        ("event_processed", "evt_1", False),
    ]


@cases(
    "change",
    {
        "F9 last-attempt": {"attempts": DEFAULT_MAX_ATTEMPTS - 1},
        "killed-its-workers": {"attempts": DEFAULT_MAX_ATTEMPTS},
    },
)
def test_event_that_is_given_up_is_told_even_if_no_handler_sees_it(
    change: dict[str, Any], told: list[Any]
) -> None:
    scene.failures.append(ValueError())
    deliver("/inbox/", stripe())
    ProcessedEvent.objects.update(**change)
    process_next()

    assert told == [("event_dead", "evt_1", False)]


def test_error_of_a_receiver_harms_nothing() -> None:
    def fail(**more: Any) -> None:
        raise ValueError

    signals.event_processed.connect(fail)
    try:
        assert deliver("/inline/", stripe()).status_code == 200
    finally:
        signals.event_processed.disconnect(fail)
    assert only().state == "processed"


def test_event_is_told_of_though_its_callback_raises(told: list[Any]) -> None:
    scene.act = lambda event: transaction.on_commit(lambda: 1 / 0)
    deliver("/inline/", stripe("evt_1"))
    deliver("/inbox/", stripe("evt_2"))
    process_next()

    assert [name for name, *_ in told] == ["event_processed", "event_processed"]


def test_log_has_each_decision_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "django_idempotency")
    scene.failures.extend([ValueError("in_1 failed"), PermanentError("in_1 never")])
    forged = stripe(secret="another")  # noqa: S106 - of a stranger
    for sent in (forged, stripe(None), stripe("evt_1"), stripe("evt_2")):
        deliver("/inline/", sent)
    for _ in range(2):
        deliver("/inline/", stripe("evt_1"))

    lines = [each for each in caplog.records if each.name == "django_idempotency"]
    assert [getattr(each, "action", None) for each in lines] == [
        "rejected",
        "unusable",
        "event_raised",
        "event_failed",
        "event_dead",
        "event_processed",
        "event_duplicate",
    ]
    for line in lines:
        assert SECRET not in line.getMessage()
        assert "v1=" not in line.getMessage()
        assert "in_1 failed" not in line.getMessage()
    # A sentence for people, and by the handler's own choice.
    assert ["in_1 never" in line.getMessage() for line in lines].count(True) == 1
    assert ProcessedEvent.objects.get(event_id="evt_2").last_error.endswith(
        "PermanentError: in_1 never"
    )
