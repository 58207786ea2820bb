"""What a handler gets, and what it may say."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django_idempotency.keys import derive_key

__all__ = ["Event", "NotReady", "PermanentError"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One verified webhook event."""

    id: str
    """The provider's id."""
    type: str
    """Such as ``invoice.paid``; empty where the provider names none."""
    source: str
    """The name of the provider's profile."""
    account: str
    """Whose event it is, and of which mode; empty where there is only one."""
    endpoint: str
    object_key: str
    """What the event is about, such as the id of a payment; may be empty."""
    occurred_at: datetime | None
    """When it happened, as the provider says; ``None`` if it doesn't."""
    data: Any
    """The parsed body, or the batch's item: what `id` and `type` were read from."""
    raw: bytes
    """The body of the delivery, byte for byte."""
    headers: Mapping[str, str]
    """Those that the profile reads, without signatures."""
    attempt: int
    """1 on the first try."""
    row_id: uuid.UUID

    def key_for(self, label: str) -> str:
        """Return the key for an outgoing call in the step `label`, 36 characters.

        Equal on each attempt at this event, also after a crash: the other side can
        tell that it is the same call.
        """
        return derive_key(self.row_id, label)


class NotReady(Exception):
    """Raised by a handler whose time has not come, such as before its order exists.

    What it wrote is rolled back. Inline the provider is answered 503 with
    ``Retry-After``; in the inbox the event is tried again after `after`.
    """

    def __init__(
        self, reason: str = "", *, after: timedelta = timedelta(seconds=30)
    ) -> None:
        super().__init__(reason)
        self.after = after


class PermanentError(Exception):
    """Raised by a handler that will never manage this event.

    What it wrote is rolled back, the event is kept as dead with its payload, and the
    provider is told that all is well: sending it again would not help.
    """
