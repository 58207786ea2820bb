"""A receiver as declared in the code, and the registry where the inbox finds it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from .events import Event
from .profiles import Found, Profile

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
    """The public URL; needed if it is signed and a proxy changes it."""
    livemode: bool | None = None
    """The mode whose events are handled; ``None``: both."""
    max_attempts: int | None = None
    """``None`` inline: the provider decides how often it sends."""
    identity: Callable[[Event], str] | None = None
    """Returns what identifies an event instead of the provider's id."""
    ordered: bool = False
    """In the inbox, no event runs before an unfinished earlier one of its object."""
    settles: str | None = None
    """The name of the call that events settle whose outcome is unknown."""
    result: Callable[[Event], Any] | None = None
    """Returns what that call has returned; ``None``: the event doesn't say."""

    def __post_init__(self) -> None:
        if self.ordered and not self.inbox:
            raise ImproperlyConfigured(
                f"The webhook {self.name!r} can't keep events in order while the provider "
                "waits: a later one would have to fail until the earlier one is sent "
                "again. Add inbox=True, or leave ordered out."
            )
        if self.ordered and not self.profile.object_key:
            raise ImproperlyConfigured(
                f"The webhook {self.name!r} has ordered=True, but the profile "
                f"{self.profile.name!r} doesn't say what an event is about, so none would "
                "wait for another. Name the place, "
                'dataclasses.replace(profile, object_key="data.id"), or leave ordered out.'
            )
        if self.livemode is not None and not self.profile.livemode:
            raise ImproperlyConfigured(
                f"The webhook {self.name!r} has livemode={self.livemode}, but the profile "
                f"{self.profile.name!r} doesn't say where an event's mode is: each would "
                "be ignored. Leave livemode out, or name the place: "
                'dataclasses.replace(profile, livemode="livemode").'
            )
        if (self.settles is None) is not (self.result is None):
            raise ImproperlyConfigured(
                f"The webhook {self.name!r} needs both or none: settles names the call, "
                "and result is a function of the event that returns what the call has "
                'returned: settles="charge", result=charge_of.'
            )
        if self.settles is not None and not self._names_calls:
            raise ImproperlyConfigured(
                f"The webhook {self.name!r} has settles={self.settles!r}, but the profile "
                f"{self.profile.name!r} doesn't say where an event names the call that "
                "has caused it, or nobody signs that. Name the place in the signed body: "
                'dataclasses.replace(profile, call_key="request.idempotency_key"), or '
                "reference=… for what the call has handed over."
            )
        if self.inbox and self.max_attempts is None:
            object.__setattr__(self, "max_attempts", DEFAULT_MAX_ATTEMPTS)
        if self.max_attempts is not None and self.max_attempts < 1:
            raise ImproperlyConfigured("max_attempts must be 1 or more.")
        if self.name == "" or len(self.name) > 255:
            raise ImproperlyConfigured(
                "An endpoint's name must have 1 to 255 characters."
            )

    @property
    def _names_calls(self) -> bool:
        profile = self.profile
        named = {"call_key": profile.call_key, "reference": profile.reference}
        places = {name for name, place in named.items() if place}
        return bool(places - profile.unsigned)

    def current_secrets(self) -> tuple[str, ...]:
        """Return the secrets, newest first; none means that nothing can be verified."""
        secrets = self.secrets() if callable(self.secrets) else self.secrets
        many = (secrets,) if isinstance(secrets, str) else tuple(secrets or ())
        return tuple(secret for secret in many if secret and secret.strip())

    def reason_to_ignore(self, event: Event) -> str:
        """Say why the event is not handled here; empty: it is."""
        # An event without a mode may be of either, so it isn't of the wanted one.
        if self.livemode is not None and event.livemode is not self.livemode:
            return f"livemode is {event.livemode}, the receiver's {self.livemode}"
        return "" if self.handles(event) else f"no handler for type {event.type!r}"

    @property
    def wait(self) -> timedelta:
        """How long a delivery waits in total for events that others are handling."""
        return self.profile.acknowledge_within / 2


DEFAULT_MAX_ATTEMPTS = 20

_endpoints: dict[str, Endpoint] = {}


def register(endpoint: Endpoint) -> None:
    """Let the inbox and an operator find the handler of a stored event.

    Raises:
        ImproperlyConfigured: if two receivers have the same name. An event sent to both
            would count as one, and only one of the handlers would run.
    """
    other = _endpoints.get(endpoint.name)
    if other is not None and not _same(other, endpoint):
        raise ImproperlyConfigured(
            f"Two webhook endpoints are named {endpoint.name!r}: an event that comes to "
            "both would be handled by only one of them. Give them different names: "
            'webhook(…, endpoint="another name"). A function that makes receivers takes '
            'the name from what they differ in: endpoint=f"refunds-{tenant}".'
        )
    _endpoints[endpoint.name] = endpoint


def endpoint_named(name: str) -> Endpoint | None:
    return _endpoints.get(name)


def require_endpoints(names: Collection[str]) -> None:
    """Refuse names that nobody has, for which a worker would wait for ever.

    Raises:
        ValueError: the message lists those that there are.
    """
    if isinstance(names, str):
        raise ValueError(
            f"endpoints={names!r} must be a collection of names: [{names!r}]."
        )
    if unknown := sorted(set(names) - set(_endpoints)):
        raise ValueError(
            f"There is no webhook endpoint {', '.join(map(repr, unknown))}. There are: "
            f"{', '.join(map(repr, sorted(_endpoints))) or 'none'}."
        )


def _same(one: Endpoint, other: Endpoint) -> bool:
    """A module that is imported again declares the same endpoint again.

    Functions and classes that a function makes, and lambdas, have equal names without
    being the same.
    """
    if "<" in one.handler.__qualname__:
        return _origin(one.handler) is _origin(other.handler)
    return _where(one.handler) == _where(other.handler)


def _where(handler: Callable[..., Any]) -> tuple[str, str]:
    return handler.__module__, handler.__qualname__


def _origin(handler: Callable[..., Any]) -> object:
    """The function that was written, or the class with the methods."""
    return getattr(handler, "webhook_class", handler)


def make_event(endpoint: Endpoint, found: Found) -> Event:
    """Return the event of one item, as it is delivered.

    Raises:
        ImproperlyConfigured: if the endpoint's identity function returns no name.
    """
    identity = found.identity_at(endpoint.name)
    event = event_in_row(endpoint, found, identity.row_id, attempt=1)
    if endpoint.identity is None:
        return event
    name: object = endpoint.identity(event)
    if not isinstance(name, str) or not name:
        raise ImproperlyConfigured(
            f"The identity function of webhook {endpoint.name!r} returned "
            f"{type(name).__name__}; it must return a non-empty str, or all such events "
            "would count as one."
        )
    return replace(event, row_id=replace(identity, event_id=f"identity:{name}").row_id)


def event_in_row(
    endpoint: Endpoint, found: Found, row_id: uuid.UUID, *, attempt: int
) -> Event:
    """Return the event that this row stands for, whatever identifies events by now."""
    return Event(
        **found.by_name(),
        endpoint=endpoint.name,
        data=found.data,
        raw=found.raw,
        attempt=attempt,
        row_id=row_id,
        unsigned=endpoint.profile.unsigned,
    )
