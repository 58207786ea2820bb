"""What happened to an operation, told after the fact.

Every signal but `unkeyed` is sent after commit or rollback, and all of them robustly: a
receiver that raises is logged by Django and can't undo a charge. The sender is
`IdempotencyRecord`; their one argument, `operation`, is the
`django_idempotency.operations.Operation`. It holds the client's key: don't log it. Those
of webhook events have `ProcessedEvent` as their sender and an `event`.

In a transaction that somebody else opened, ``kept`` follows *their* commit: inside
``TestCase`` it is sent only under ``captureOnCommitCallbacks(execute=True)``.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = [
    "claimed",
    "event_dead",
    "event_duplicate",
    "event_failed",
    "event_processed",
    "in_flight",
    "kept",
    "mismatched",
    "released",
    "replayed",
    "unkeyed",
]

claimed = Signal()
"""The view ran: sent together with `kept` or `released`, before it."""

kept = Signal()
"""The answer was stored and committed with the view's writes."""

released = Signal()
"""The key is free again. In the atomic shape the view's writes were rolled back."""

replayed = Signal()
"""A stored answer is being sent again."""

in_flight = Signal()
"""A copy waited as long as it may and was told to come back (409)."""

unkeyed = Signal()
"""A POST or PATCH to a protected view came without a key; before anything else happens.

Its one argument is `request`: the caller is to be found before keys are required.
"""

mismatched = Signal()
"""The key came back with another payload and was refused (422)."""

event_processed = Signal()
"""A webhook event was handled and committed. Its argument is `event`, as in the other
three; the sender is `ProcessedEvent`."""

event_duplicate = Signal()
"""A delivery of an event that is done already, or waits in the inbox."""

event_failed = Signal()
"""The handler's writes were rolled back; another attempt will follow."""

event_dead = Signal()
"""The event was given up, and its payload kept for a person."""
