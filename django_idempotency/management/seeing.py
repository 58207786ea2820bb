from __future__ import annotations

from django_idempotency.core.seen import described
from django_idempotency.models import IdempotencyRecord, ProcessedEvent


def require_seen(row: IdempotencyRecord | ProcessedEvent, seen: str) -> None:
    """Refuse an act on a row that is not, or no longer, as the operator has seen it.

    The same command a second time would otherwise act on what the first has done.

    Raises:
        ValueError: the message says how it is now, and how to act on that.
    """
    if seen == row.seen:
        return
    now = described(row.state, row.attempts)
    last = f" (last error: {row.last_error})" if row.last_error else ""
    if not seen:
        raise ValueError(
            f"It is {now}{last}, and nothing was done. To act on what you see now, "
            f"repeat the command with --seen {row.seen}."
        )
    raise ValueError(
        f"It is {now}{last}, and has changed since you looked at {seen}. Nothing was "
        f"done. To act on what you see now, repeat the command with --seen {row.seen}."
    )
