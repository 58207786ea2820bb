"""A receiver as the code declares it, and the register by which the inbox finds it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.operations import EventIdentity

from .events import Event
from .profiles import Found, Profile

__all__ = ["Endpoint", "endpoint_named", "make_event", "register"]

Secrets = str | Sequence[str] | Callable[[], str | Sequence[str]]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """What a webhook view was declared with."""

    name: str
    profile: Profile
    secrets: Secrets
    handler: Callable[[Event], Any]
    handles: Callable[[Event], bool]
    """Whether there is a handler for the event's type."""
    inbox: bool = False
    url: str | None = None
    """The public address, where it is signed and a proxy hides it."""
    max_attempts: int | None = None
    """``None`` inline: the provider's horizon is the limit."""
    identity: Callable[[Event], str] | None = None
    """Another identity than the provider's id."""
    ordered: bool = False
    """In the inbox: no event of an object before an earlier one that is not done."""

    def __post_init__(self) -> None:
        if self.inbox and self.max_attempts is None:
            object.__setattr__(self, "max_attempts", DEFAULT_MAX_ATTEMPTS)
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ImproperlyConfigured("max_attempts must be 1 or more.")
        if self.name == "" or len(self.name) > 255:
            raise ImproperlyConfigured("An endpoint's name has 1 to 255 characters.")

    def current_secrets(self) -> tuple[str, ...]:
        """Return the secrets, newest first; none means that nothing can be verified."""
        secrets = self.secrets() if callable(self.secrets) else self.secrets
        many = (secrets,) if isinstance(secrets, str) else tuple(secrets or ())
        return tuple(secret for secret in many if secret and secret.strip())

    @property
    def wait(self) -> timedelta:
        """How long a delivery waits in all for events that another one is handling."""
        return self.profile.acknowledge_within / 2


DEFAULT_MAX_ATTEMPTS = 20

_endpoints: dict[str, Endpoint] = {}


def register(endpoint: Endpoint) -> None:
    """Let the inbox and an operator find the handler of a stored event.

    Raises:
        ImproperlyConfigured: if two receivers have one name. To both of them an event
            would be one, and only one of their handlers would see it.
    """
    other = _endpoints.get(endpoint.name)
    if other is not None and not _same(other, endpoint):
        raise ImproperlyConfigured(
            f"Two webhook endpoints are named {endpoint.name!r}: an event that comes to "
            "both would be handled by one of them. Name them apart: "
            'webhook(…, endpoint="another name").'
        )
    _endpoints[endpoint.name] = endpoint


def endpoint_named(name: str) -> Endpoint | None:
    return _endpoints.get(name)


def _same(one: Endpoint, other: Endpoint) -> bool:
    """A module that is imported again declares the same endpoint again."""
    return _where(one.handler) == _where(other.handler)


def _where(handler: Callable[..., Any]) -> tuple[str, str]:
    return handler.__module__, handler.__qualname__


def make_event(endpoint: Endpoint, found: Found, *, raw: bytes, attempt: int) -> Event:
    """Return the event of one item.

    Raises:
        ImproperlyConfigured: if the endpoint's own identity names nothing.
    """

    def under(event_id: str) -> Event:
        return Event(
            id=found.id,
            type=found.type,
            source=endpoint.profile.name,
            account=found.account,
            endpoint=endpoint.name,
            object_key=found.object_key,
            occurred_at=found.occurred_at,
            data=found.data,
            raw=raw,
            headers=found.headers,
            attempt=attempt,
            row_id=_row_id(endpoint, found, event_id),
        )

    event = under(found.id)
    if endpoint.identity is None:
        return event
    name: object = endpoint.identity(event)
    if not isinstance(name, str) or not name:
        raise ImproperlyConfigured(
            f"The identity function of webhook {endpoint.name!r} returned "
            f"{type(name).__name__} where it must return a non-empty str: all such "
            "events would be one."
        )
    return under(f"identity:{name}")


def _row_id(endpoint: Endpoint, found: Found, event_id: str) -> uuid.UUID:
    return EventIdentity(
        endpoint=endpoint.name,
        source=endpoint.profile.name,
        account=found.account,
        event_id=event_id,
    ).row_id
