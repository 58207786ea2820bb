"""One log line and one signal for what became of an operation."""

from __future__ import annotations

import logging

from django.dispatch import Signal

from django_idempotency import signals
from django_idempotency.core.decisions import (
    Duplicate,
    Expired,
    Held,
    InFlight,
    Mismatch,
    Replay,
    Unreadable,
    Verdict,
)
from django_idempotency.core.operations import Operation
from django_idempotency.exceptions import Undecodable
from django_idempotency.models import IdempotencyRecord

logger = logging.getLogger("django_idempotency")


def report_verdict(operation: Operation, verdict: Verdict) -> None:
    """Report what was answered instead of running; a replay is reported when sent."""
    match verdict:
        case InFlight():
            report("in_flight", operation)
        case Mismatch():
            report("mismatched", operation)
        case Duplicate():
            report("possible_duplicate", operation)
        case Held():
            report("held", operation)
        case Expired():
            report("expired", operation)
        case Unreadable(why):
            logger.error(
                "idempotency unreadable: the stored answer can't be read%s: %s",
                why and f". {why}",
                operation,
                extra=_log_fields("unreadable", operation),
            )
        case Replay():  # pragma: no branch - mypy proves there is no other
            pass


def report_lost(operation: Operation) -> None:
    """Report a record that was committed in the middle of its work."""
    logger.error(
        "idempotency lost: the transaction of an operation was ended inside the work, "
        "so it is unknown what of it is done. A person has to find out, and settle it: "
        "manage.py settle_idempotency_key %s: %s",
        operation.record_id,
        operation,
        extra=_log_fields("lost", operation),
    )


def report_undecodable(operation: Operation, fault: Undecodable) -> None:
    """Report what a retry would go on after and can't be read; it isn't run."""
    logger.error(
        "idempotency undecodable: what the steps of an operation have returned can't be "
        "read, so it is not run again. %s: %s",
        fault,
        operation,
        extra=_log_fields("undecodable", operation),
    )


def report_busy(endpoint: str = "") -> None:
    """Report that others have kept the database busy for the whole wait.

    Without a traceback: nothing is broken, and who asked was told to come again.
    """
    logger.warning(
        "%s busy: others wrote to the database for longer than the wait, so %s could not "
        "be claimed",
        "webhook" if endpoint else "idempotency",
        "an event" if endpoint else "a request",
        extra={"action": "busy", **({"endpoint": endpoint} if endpoint else {})},
    )


def report(action: str, operation: Operation) -> None:
    """Write one log line and send the signal of that name."""
    level = logging.WARNING if action == "held" else logging.INFO
    if logger.isEnabledFor(level):
        fields = _log_fields(action, operation)
        logger.log(level, "idempotency %s: %s", action, operation, extra=fields)
    signal: Signal = getattr(signals, action)
    signal.send_robust(sender=IdempotencyRecord, operation=operation)


def _log_fields(action: str, operation: Operation) -> dict[str, str]:
    return {
        "action": action,
        "record_id": str(operation.record_id),
        "reference": operation.reference,
    }
