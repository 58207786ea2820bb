"""A provider as data: what its deliveries look like, and how it sends again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from django.core.exceptions import ImproperlyConfigured
from django.utils.dateparse import parse_datetime

from django_idempotency.core.events import EventFacts

from .batches import bodies_of
from .deliveries import Delivery, Verifier, is_in_body

LONGEST = 255
"""A longer id is replaced by its digest; cut off, two could become the same."""
LONGEST_NAME = 64
YEARS = range(1970, 9999)


FACTS = ("id", "type", "account", "object_key", "occurred_at", "livemode")
"""The fields of an event that a profile says the place of."""


class UnusableDelivery(Exception):
    """The signature is right, but no event can be read; sending again won't help."""


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


Place = str | tuple[str, ...]
"""A dotted path in the body, or ``header:Name``; of several, the values are joined."""


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
    """What identifies an event. Every part must be present and a string."""
    type: Place = ()
    account: Place = ()
    object_key: Place = ()
    """What the event is about: events of one object can be kept in order."""
    occurred_at: Place = ()
    """Seconds since the epoch, or a date and time of ISO 8601."""
    livemode: Place = ()
    """Whether the event is live: true or false, in the item or else in the body."""
    items: str = ""
    """If the body is a batch, the path of its list."""
    item: str = ""
    """If each element of the list wraps the item, the path within the element."""
    is_form: bool = False
    """Whether the body is a form instead of JSON."""
    retries: bool = True
    """``False``: a delivery that fails is lost, unless it is stored in the inbox."""
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
            if not all(signs(part) for part in _parts(getattr(self, fact)))
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
        items = _at(content, self.items)
        if not isinstance(items, list) or not items:
            raise UnusableDelivery("the batch is empty")
        return [_at(item, self.item) if self.item else item for item in items]

    def _found(
        self,
        delivery: Delivery,
        content: Any,
        item: Any,
        raw: bytes,
        known: EventFacts | None = None,
    ) -> Found:
        def label(place: Place) -> str:
            return _label(_values(delivery, item, place))

        return Found(
            id=known.id if known else _joined(_id_parts(delivery, item, self.id)),
            type=label(self.type),
            source=self.name,
            account=known.account
            if known
            else _joined(_values(delivery, item, self.account)),
            object_key=label(self.object_key),
            occurred_at=_instant(_first(_values(delivery, item, self.occurred_at))),
            data=item,
            raw=raw,
            headers=self._headers(delivery),
            livemode=_mode(
                [
                    *_values(delivery, item, self.livemode),
                    *_values(delivery, content, self.livemode),
                ]
            ),
        )

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        """Keep what the profile reads, without signatures and credentials."""
        names = {
            part.removeprefix("header:")
            for fact in FACTS
            for part in _parts(getattr(self, fact))
            if not is_in_body(part)
        }
        values = {name: delivery.headers.get(name) for name in sorted(names)}
        return {
            name: value
            for name, value in values.items()
            if value and _is_storable(value)
        }


def body_digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _parts(place: Place) -> tuple[str, ...]:
    return (place,) if isinstance(place, str) else place


def _at(item: Any, path: str) -> Any:
    for name in path.split("."):
        item = item.get(name) if isinstance(item, dict) else None
    return item


def _values(delivery: Delivery, item: Any, place: Place) -> list[Any]:
    """Return what is at each part of a place; ``None`` for a missing part."""
    return [
        _at(item, part)
        if is_in_body(part)
        else delivery.headers.get(part.removeprefix("header:"))
        for part in _parts(place)
    ]


def _first(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _mode(values: list[Any]) -> bool | None:
    """Read true or false, as JSON or as text; ``None`` if it is neither."""
    return {"true": True, "false": False}.get(str(_first(values)).lower())


def _id_parts(delivery: Delivery, item: Any, place: Place) -> list[str]:
    values = _values(delivery, item, place)
    if not all(isinstance(value, str) and value for value in values):
        raise UnusableDelivery("the event has no id")
    if len(values) == 1:
        return values
    # "a:b" and "c" must not look like "a" and "b:c".
    return [value.replace("%", "%25").replace(":", "%3A") for value in values]


def _joined(values: list[Any]) -> str:
    return _usable(":".join(_as_text(value) for value in values if value is not None))


def _label(values: list[Any]) -> str:
    """Return a name outside of the identity; without it, nothing is lost."""
    try:
        return _joined(values)
    except UnusableDelivery:
        return ""


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UnusableDelivery("there is an object in the place of a name")


def _usable(text: str) -> str:
    if not _is_storable(text):
        raise UnusableDelivery("a name can't be stored")
    if len(text) <= LONGEST:
        return text
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _is_storable(text: str) -> bool:
    """No database accepts half a surrogate pair, and some don't accept NUL."""
    return "\0" not in text and not any("\ud800" <= each <= "\udfff" for each in text)


def _instant(value: Any) -> datetime | None:
    """Read a time of the provider; ``None`` if it can't be read."""
    try:
        instant = _read_instant(value)
        # Databases differ in the years that they can store.
        return instant if instant is not None and instant.year in YEARS else None
    except (ValueError, OverflowError, OSError):
        return None


def _read_instant(value: Any) -> datetime | None:
    if isinstance(value, str):
        instant = parse_datetime(value)
        if instant is None:
            return datetime.fromtimestamp(int(value), UTC)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(
            UTC
        )
    if isinstance(value, int | float) and not isinstance(value, bool):
        return datetime.fromtimestamp(value, UTC)
    return None


def _is_success(status: int) -> bool:
    return 200 <= status < 300
