"""What is told of an event, and that it is told after the fact."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from django_idempotency import signals
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks import NotReady, PermanentError
from django_idempotency.webhooks.endpoints import DEFAULT_MAX_ATTEMPTS
from django_idempotency.webhooks.inbox import process_next, rerun
from tests.deliveries import SECRET, deliver, stripe
from tests.integration.webhooks.events import make_due, only
from tests.integration.webhooks.receivers import scene

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls("tests.integration.webhooks.receivers"),
]

NAMES = ("event_processed", "event_duplicate", "event_failed", "event_dead")


@pytest.fixture
def told() -> Iterator[list[tuple[str, str, bool]]]:
    """Name of the signal, the event's id, and whether a transaction was open."""
    heard: list[tuple[str, str, bool]] = []
    receivers = {}

    def listener(name: str) -> Any:
        def listen(sender: Any, event: Any, **more: Any) -> None:
            assert sender is ProcessedEvent
            heard.append((name, event.id, connection.in_atomic_block))

        return listen

    for name in NAMES:
        receivers[name] = listener(name)
        getattr(signals, name).connect(receivers[name])
    yield heard
    for name in NAMES:
        getattr(signals, name).disconnect(receivers[name])


def test_inline_event_is_told_after_its_commit(told: list[Any]) -> None:
    scene.failures.extend([ValueError(), NotReady(), PermanentError()])
    for event_id in ("evt_1", "evt_2", "evt_3", "evt_1", "evt_1"):
        deliver("/inline/", stripe(event_id))

    assert told == [
        ("event_failed", "evt_1", False),
        ("event_failed", "evt_2", False),
        ("event_dead", "evt_3", False),
        ("event_processed", "evt_1", False),
        ("event_duplicate", "evt_1", False),
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


def test_event_given_up_after_its_attempts_is_told(told: list[Any]) -> None:  # F9
    scene.failures.extend(ValueError() for _ in range(2))
    deliver("/limited-inbox/", stripe())
    process_next()
    make_due()
    process_next()

    assert [name for name, *_ in told] == ["event_failed", "event_dead"]


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": DEFAULT_MAX_ATTEMPTS},
        {"payload": b"[]"},
        {"attempts": DEFAULT_MAX_ATTEMPTS - 1, "endpoint": "gone"},
    ],
    ids=["killed-its-workers", "unusable", "nobodys"],
)
def test_event_that_no_handler_sees_is_told_all_the_same(
    change: dict[str, Any], told: list[Any]
) -> None:
    deliver("/inbox/", stripe())
    ProcessedEvent.objects.update(**change)
    process_next()

    assert told == [("event_dead", "evt_1", False)]


def test_error_of_a_receiver_harms_nothing(told: list[Any]) -> None:
    def fail(**more: Any) -> None:
        raise ValueError

    signals.event_processed.connect(fail)
    try:
        assert deliver("/inline/", stripe()).status_code == 200
    finally:
        signals.event_processed.disconnect(fail)
    assert only().state == "processed"


def test_error_of_a_callback_doesnt_keep_the_event_from_being_told(
    told: list[Any],
) -> None:
    from django.db import transaction

    scene.act = lambda event: transaction.on_commit(lambda: 1 / 0)
    deliver("/inline/", stripe("evt_1"))
    deliver("/inbox/", stripe("evt_2"))
    process_next()

    assert [name for name, *_ in told] == ["event_processed", "event_processed"]


def test_rerun_is_told(told: list[Any]) -> None:
    scene.failures.append(PermanentError())
    deliver("/inline/", stripe())
    rerun(only().pk, reason="r")

    assert [name for name, *_ in told] == ["event_dead", "event_processed"]


def test_log_has_a_line_for_each_decision_and_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
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
        assert "in_1" not in line.getMessage()
