"""What happened to an operation or an event, sent after the fact.

Every signal but `unkeyed` is sent after commit or rollback, and all of them with
``send_robust()``: when a receiver raises, Django logs it, and nothing is undone. The
sender is `IdempotencyRecord`; the one argument, `operation`, has the `record_id`, the
scope and the client's key, which must not be logged; and, for those who measure,
`endpoint`, `waited`, `ran` and `took_over`. Signals of webhook events have
`ProcessedEvent` as their sender and the argument `event`.

In a transaction that somebody else opened, ``kept`` follows *their* commit: inside
``TestCase`` it is sent only under ``captureOnCommitCallbacks(execute=True)``.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = [
    "claimed",
    "dropped",
    "erased",
    "event_dead",
    "event_duplicate",
    "event_failed",
    "event_ignored",
    "event_processed",
    "expired",
    "forgotten",
    "freed",
    "held",
    "in_flight",
    "kept",
    "mismatched",
    "possible_duplicate",
    "released",
    "replayed",
    "rerun",
    "settled",
    "unkeyed",
]

claimed = Signal()
"""The view ran; sent just before `kept` or `released`, not when the view starts."""

kept = Signal()
"""The answer was stored and committed with the view's writes."""

released = Signal()
"""The key is free again. In the atomic shape the view's writes were rolled back."""

replayed = Signal()
"""A stored answer is being sent again."""

in_flight = Signal()
"""A copy waited as long as allowed and was told to come back (409)."""

held = Signal()
"""The outcome of a call is unknown, and a person has to find out: sent when its view
has ended, and for each request that is refused because of it (409)."""

expired = Signal()
"""A late repeat was refused: it was done, and its answer isn't kept any more (409)."""

settled = Signal()
"""A person has found out. Its arguments are the `record` as it is now, `by`, `reason`
and `applied`."""

freed = Signal()
"""A person has found out that nothing has happened, and released a stuck key. Its
arguments are the `record` as it is now, `by` and `reason`."""

forgotten = Signal()
"""A person has let the answer of an operation be forgotten; that it is done is not. Its
arguments are the `record` as it is now, `by` and `reason`."""

erased = Signal()
"""What is stored of a person was erased. Its arguments are the `record_ids`, `by` and
`reason`, and not who the person was."""

unkeyed = Signal()
"""A POST or PATCH to a protected view came without a key; before anything else happens.

Its one argument is `request`, to find such callers before keys are required.
"""

mismatched = Signal()
"""The key came back with another payload and was refused (422)."""

possible_duplicate = Signal()
"""The same came under another key within the policy's `intent_window`, and was refused
until the client confirms it (409). `operation` is the refused one."""

event_processed = Signal()
"""A webhook event was handled and committed. Like the other signals of events, it
has the argument `event` and the sender `ProcessedEvent`; its own is `waited`, the
seconds since its first delivery was received."""

event_duplicate = Signal()
"""A delivery of an event that is done already, or waits in the inbox."""

event_failed = Signal()
"""The handler's writes were rolled back; another attempt will follow."""

event_dead = Signal()
"""The event was given up, and its payload kept for a person."""

rerun = Signal()
"""A person lets an event run again. Its arguments are the `event`, which is the row as it
was seen, `by`, `reason`, and `act`: ``"rerun"`` or ``"reopen"``."""

dropped = Signal()
"""A person has dropped the payload of an event. Its arguments are the `event`, which is
the row as it was seen, `by` and `reason`."""

event_ignored = Signal()
"""An event was stored that nobody handles: there is no handler for its type, or the
receiver is for the other mode."""
