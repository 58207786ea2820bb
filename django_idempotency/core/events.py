"""The values that a webhook event is made of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from .keys import digest_id


class EventState(StrEnum):
    """The life of an event."""

    RECEIVED = "received"
    """Stored with its payload, or claimed by a transaction that is still open."""
    PROCESSED = "processed"
    FAILED = "failed"
    """The last attempt was rolled back; another will follow."""
    IGNORED = "ignored"
    """There was no handler; the payload is kept until there is one."""
    DEAD = "dead"
    """Given up; a person decides. The payload is kept."""
    REOPENED = "reopened"
    """Processed, and a person lets the provider's next delivery run it once more."""
    DROPPED = "dropped"
    """A person has given up what was dead or ignored, and its payload is gone."""


@dataclass(frozen=True, kw_only=True)
class EventIdentity:
    """What makes two deliveries the same event.

    The endpoint is part of it because some providers send one id to several
    subscriptions, the account because ids are unique per account and mode.
    """

    endpoint: str
    source: str
    account: str
    event_id: str
    """The provider's id, or what the endpoint's own identity function returned."""

    @cached_property
    def row_id(self) -> uuid.UUID:
        """The primary key of its row."""
        return digest_id(self.endpoint, self.source, self.account, self.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFacts:
    """What a provider says about an event, except for its content."""

    id: str
    """The provider's id."""
    type: str
    """Such as ``invoice.paid``; empty if the provider names none."""
    source: str
    """The name of the provider's profile."""
    account: str
    """Whose event it is, and in which mode; empty if there is only one."""
    object_key: str
    """What the event is about, such as the id of a payment; may be empty."""
    occurred_at: datetime | None
    """When it happened, as the provider says; ``None`` if it doesn't."""
    headers: Mapping[str, str]
    """The headers that the profile reads, without signatures."""
    call_key: str = ""
    """The idempotency key of the call that has caused it, as the provider echoes it."""
    reference: str = ""
    """What that call has handed over to be known by, as the provider echoes it."""
    livemode: bool | None = None
    """Whether it is about real money and not a test; ``None`` if that isn't known."""

    def by_name(self) -> dict[str, Any]:
        """Return these fields alone, also from a subclass that has more."""
        return {field.name: getattr(self, field.name) for field in fields(EventFacts)}

    def identity_at(self, endpoint: str) -> EventIdentity:
        return EventIdentity(
            endpoint=endpoint,
            source=self.source,
            account=self.account,
            event_id=self.id,
        )
