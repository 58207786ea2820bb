from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.core.checks import CheckMessage, Error, Warning

from django_idempotency.conf import conf
from django_idempotency.policies import IdempotencyPolicy

from .settings import SHORTEST_SAFE_RETENTION


def check_durations(policy: IdempotencyPolicy, name: str) -> Iterator[CheckMessage]:
    """Check what a policy can't refuse where it is written."""
    yield from _short_retention(policy, name)
    yield from _long_lease(policy, name)
    yield from _long_window(policy, name)


def _short_retention(policy: IdempotencyPolicy, name: str) -> Iterator[CheckMessage]:
    if policy.retention is not None and policy.retention < SHORTEST_SAFE_RETENTION:
        yield Warning(
            f"The answers of {name} should be kept for at least a day, not for "
            f"{policy.retention}: a retry that comes after it runs again, although the "
            "payment provider may still know the key.",
            hint="    retention=timedelta(hours=48)",
            id="django_idempotency.W024",
        )


def _long_window(policy: IdempotencyPolicy, name: str) -> Iterator[CheckMessage]:
    """The policy itself compares its own two, and another check the settings."""
    if (policy.retention is None) is (policy.intent_window is None):
        return
    window: object = policy.effective_intent_window
    retention: object = policy.retention or conf.IDEMPOTENCY_RETENTION
    if not (isinstance(window, timedelta) and isinstance(retention, timedelta)):
        return
    if window >= retention:
        yield Error(
            f"The intent_window of {name}, {window}, must be shorter than its "
            f"retention, {retention}: what is forgotten can't be asked about.",
            hint="    intent_window=timedelta(seconds=30)",
            id="django_idempotency.E058",
        )


def _long_lease(policy: IdempotencyPolicy, name: str) -> Iterator[CheckMessage]:
    """The policy itself refuses one that is longer than its own retention."""
    retention: object = conf.IDEMPOTENCY_RETENTION
    if policy.lease is None or policy.retention is not None:
        return
    if isinstance(retention, timedelta) and policy.lease >= retention:
        yield Error(
            f"The lease of {name}, {policy.lease}, must be shorter than "
            f"IDEMPOTENCY_RETENTION, {retention}: the operation would be forgotten "
            "before it can be resumed, so each request is refused.",
            hint=f"    retention=timedelta(days={policy.lease.days + 2})",
            id="django_idempotency.E039",
        )
