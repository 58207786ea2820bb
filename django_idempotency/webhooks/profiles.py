"""A provider as data: what its deliveries look like, and how it sends again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import ImproperlyConfigured

from django_idempotency.core.events import EventFacts

from .batches import bodies_of
from .deliveries import Delivery, Verifier, is_in_body
from .places import (
    Place,
    UnusableDelivery,
    account_of,
    at_path,
    first_of,
    id_parts,
    identity_of,
    instant_of,
    is_storable,
    label_of,
    mode_of,
    parts,
    values_at,
)

LONGEST_NAME = 64

FACTS = (
    *("id", "type", "account", "object_key", "occurred_at", "livemode"),
    *("call_key", "reference"),
)
"""The fields of an event that a profile says the place of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a provider wants to read."""

    status: int = 200
    body: str = ""
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(EventFacts):
    """One event in a delivery."""

    data: Any
    """The parsed body, or the batch's item."""
    raw: bytes
    """The body; of a batch, without the other items."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How one provider signs, names and repeats its events.

    Times and limits are from the provider's own pages; see the reference of profiles.
    To change a field of an existing profile, use `dataclasses.replace`.

    Raises:
        ImproperlyConfigured: where the profile is written, if it could lose events.
    """

    name: str
    verifier: Verifier
    id: Place
    """What identifies an event. Every part must be present: text or a whole number."""
    type: Place = ()
    account: Place = ()
    object_key: Place = ()
    """What the event is about: events of one object can be kept in order."""
    occurred_at: Place = ()
    """Seconds or milliseconds since the epoch, or a date and time of ISO 8601."""
    livemode: Place = ()
    """Whether the event is live: true or false, in the item or else in the body."""
    call_key: Place = ()
    """The idempotency key of the call that has caused the event."""
    reference: Place = ()
    """What that call has handed over to be known by, such as an order's number."""
    items: str = ""
    """If the body is a batch, the path of its list."""
    item: str = ""
    """If each element of the list wraps the item, the path within the element."""
    is_form: bool = False
    """Whether the body is a form instead of JSON."""
    retries: bool = True
    """``False``: a delivery that fails is lost, unless it is stored in the inbox."""
    stops_at_failure: bool = False
    """Whether a delivery that fails holds back all later ones."""
    acknowledge_within: timedelta = timedelta(seconds=10)
    """How long the provider waits for an answer."""
    retry_horizon: timedelta = timedelta(days=3)
    """How long after the first delivery the last one may come."""
    max_body: int = 1024 * 1024
    """In bytes; a larger body is refused before anything is computed."""
    success: Reply = Reply()
    rejected_status: int = 401
    busy_status: int = 503
    """For a copy of an event that is not finished; never 2xx."""
    challenge: Callable[[Any], Reply | None] | None = None
    """Answers a signed delivery that isn't an event but the provider's own test."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= LONGEST_NAME:
            raise ImproperlyConfigured("A profile's name must have 1 to 64 characters.")
        if not self.id or not all(self.id):
            raise ImproperlyConfigured(
                f"The profile {self.name!r} doesn't say where the event's id is: all its "
                "events would count as one."
            )
        if self.acknowledge_within <= timedelta(0) or self.retry_horizon < timedelta(0):
            raise ImproperlyConfigured(
                f"In the profile {self.name!r}, acknowledge_within must be positive, and "
                "retry_horizon must not be negative."
            )
        if _is_success(self.rejected_status) or _is_success(self.busy_status):
            raise ImproperlyConfigured(
                f"In the profile {self.name!r}, busy_status and rejected_status must not "
                "be 2xx: the provider would not send the event again."
            )
        if not _is_success(self.success.status):
            raise ImproperlyConfigured(
                f"The success of the profile {self.name!r} must be 2xx, not "
                f"{self.success.status}: no event would be acknowledged."
            )

    @cached_property
    def unsigned(self) -> frozenset[str]:
        """The names of those fields of an event that the signature doesn't cover."""
        signs = getattr(self.verifier, "signs", is_in_body)
        return frozenset(
            fact
            for fact in FACTS
            if not all(signs(part) for part in parts(getattr(self, fact)))
        )

    def parse(self, delivery: Delivery) -> Any:
        """Return the body's content, for the id and the handler alike.

        Raises:
            UnusableDelivery: the body is not what the provider sends.
        """
        try:
            if self.is_form:
                text = delivery.body.decode()
                return dict(parse_qsl(text, keep_blank_values=True))
            content = json.loads(delivery.body.decode())
        except (ValueError, RecursionError) as error:
            raise UnusableDelivery("the body can't be read") from error
        if not isinstance(content, dict):
            raise UnusableDelivery("the body isn't a JSON object")
        return content

    def events(self, delivery: Delivery, content: Any) -> list[Found]:
        """Return the events of a verified delivery.

        Raises:
            UnusableDelivery: an event has no usable id.
        """
        items = self._items(content)
        if not self.items:
            bodies = [delivery.body]
        else:
            try:
                bodies = bodies_of(delivery.body, self.items)
            except RecursionError as error:
                raise UnusableDelivery("the batch is too deep") from error
        return [
            self._found(delivery, content, item, body)
            for item, body in zip(items, bodies, strict=True)
        ]

    def stored_event(self, delivery: Delivery, stored: EventFacts) -> Found:
        """Return the event of a stored body, which contains only this one.

        So it is this one, even if by now an event's id is read from somewhere else.

        Raises:
            UnusableDelivery: the body is not what the provider sends.
        """
        content = self.parse(delivery)
        items = self._items(content)
        if len(items) != 1:
            raise UnusableDelivery("the stored body has several events")
        try:
            return self._found(delivery, content, items[0], delivery.body)
        except UnusableDelivery:
            return self._found(delivery, content, items[0], delivery.body, stored)

    def _items(self, content: Any) -> list[Any]:
        if not self.items:
            return [content]
        items = at_path(content, self.items)
        if not isinstance(items, list) or not items:
            raise UnusableDelivery("the batch is empty")
        return [at_path(item, self.item) if self.item else item for item in items]

    def _found(
        self,
        delivery: Delivery,
        content: Any,
        item: Any,
        raw: bytes,
        known: EventFacts | None = None,
    ) -> Found:
        def label(place: Place) -> str:
            return label_of(values_at(delivery, item, place))

        return Found(
            id=known.id if known else identity_of(id_parts(delivery, item, self.id)),
            type=label(self.type),
            source=self.name,
            account=known.account
            if known
            else account_of(values_at(delivery, item, self.account)),
            object_key=label(self.object_key),
            occurred_at=instant_of(
                first_of(values_at(delivery, item, self.occurred_at))
            ),
            call_key=label(self.call_key),
            reference=label(self.reference),
            data=item,
            raw=raw,
            headers=self._headers(delivery),
            livemode=mode_of(
                [
                    *values_at(delivery, item, self.livemode),
                    *values_at(delivery, content, self.livemode),
                ]
            ),
        )

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        """Keep what the profile reads, without signatures and credentials."""
        names = {
            part.removeprefix("header:")
            for fact in FACTS
            for part in parts(getattr(self, fact))
            if not is_in_body(part)
        }
        values = {name: delivery.headers.get(name) for name in sorted(names)}
        return {
            name: value
            for name, value in values.items()
            if value and is_storable(value)
        }


def body_digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _is_success(status: int) -> bool:
    return 200 <= status < 300
