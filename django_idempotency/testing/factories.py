"""Records and events in each state, as the package itself would have left them.

Times are the database's, as everywhere. Use `create`, which is also what calling a
factory does; an object from `build` has no times, since only the database knows them.
"""

from __future__ import annotations

import json
import uuid
from datetime import timedelta
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.http import HttpRequest
from django.test import RequestFactory
from django.utils.datastructures import CaseInsensitiveMapping

from django_idempotency.conf import conf
from django_idempotency.core.decisions import RecordState
from django_idempotency.core.events import EventIdentity, EventState
from django_idempotency.core.operations import Operation
from django_idempotency.fields import UtcNow
from django_idempotency.http.requests import key_of, operation_of
from django_idempotency.models import IdempotencyRecord, ProcessedEvent
from django_idempotency.policies import IdempotencyPolicy
from django_idempotency.webhooks.deliveries import Delivery
from django_idempotency.webhooks.endpoints import (
    DEFAULT_MAX_ATTEMPTS,
    endpoint_named,
    make_event,
)
from django_idempotency.webhooks.events import Event
from django_idempotency.webhooks.profiles import body_digest

try:
    from factory.declarations import (
        LazyAttribute,
        LazyAttributeSequence,
        LazyFunction,
        Trait,
    )
    from factory.django import DjangoModelFactory
except ImportError as error:
    raise ImportError(
        "django_idempotency.testing.factories needs the package factory-boy: "
        "pip install django-idempotency[testing]"
    ) from error

__all__ = ["IdempotencyRecordFactory", "ProcessedEventFactory"]

JSON = "application/json"
A_MINUTE = timedelta(minutes=1)

M = TypeVar("M", bound=Model)


class _RowFactory(DjangoModelFactory[M]):
    class Meta:
        abstract = True

    @classmethod
    def _create(cls, model_class: type[M], *args: Any, **kwargs: Any) -> M:
        row: M = super()._create(model_class, *args, **kwargs)  # type: ignore[no-untyped-call]
        row.refresh_from_db()  # the database has told the times
        return row


def _request(made: Any) -> HttpRequest:
    """Return the given request, or build the one that is described."""
    if made.request is not None:
        request: HttpRequest = made.request
        return request
    options = {} if made.content_type is None else {"content_type": made.content_type}
    data = () if made.data is None else (made.data,)
    send = getattr(RequestFactory(), made.method.lower())
    request = send(made.path, *data, headers=made.headers, **options)
    if made.user is not None:
        request.user = made.user
    return request


def _key(made: Any) -> str:
    sent = None if made.request is None else key_of(made.request, made.policy)
    return sent or str(uuid.uuid4())


def _operation(made: Any) -> Operation:
    request = made.sent
    return operation_of(request, made.key, made.policy, view_request=request)


def _remembered_until(made: Any) -> Any:
    policy, tombstone = made.policy, made.policy.effective_tombstone
    return UtcNow() + policy.effective_retention + tombstone if tombstone else None


def _lease_end(made: Any) -> Any:
    return UtcNow() + (made.policy.lease or A_MINUTE)


class IdempotencyRecordFactory(_RowFactory[IdempotencyRecord]):
    """Makes the record of one request. Without a trait it is kept.

    The request is described by `user` (``None``: a guest), `method`, `path`, `data`,
    `content_type` (``None``: what Django's client itself chooses) and `headers`; or
    it is a `request`, with what your middleware and principal hook need. The same
    request under the same `key` is then a repeat, to a view with the same `policy`.

    What was answered is `answer`, as JSON, or the columns `response_status`,
    `response_headers` and `response_body`.

    Traits: `held`, `in_flight` (with a live lease), `released`, and `expired`.

    Raises:
        InvalidKey: a guest's key is guessable.
    """

    class Meta:
        model = IdempotencyRecord
        rename = {"stored_path": "path"}

    class Params:
        request = None
        user = None
        path = "/"
        data = None
        content_type = JSON
        headers = None
        policy = IdempotencyPolicy()
        answer = LazyFunction(dict)
        sent = LazyAttribute(_request)
        operation = LazyAttribute(_operation)

        no_answer = Trait(
            response_status=None,
            response_headers=None,
            response_body=None,
            completed_at=None,
        )
        in_flight = Trait(
            no_answer=True,
            state=RecordState.IN_FLIGHT,
            lease_token=LazyFunction(uuid.uuid4),
            lease_expires_at=LazyAttribute(_lease_end),
        )
        held = Trait(
            no_answer=True,
            state=RecordState.HELD,
            effects=LazyFunction(
                lambda: {"steps": [{"name": "charge", "kind": "call", "done": False}]}
            ),
            held_since=LazyFunction(UtcNow),
        )
        released = Trait(
            no_answer=True,
            state=RecordState.RELEASED,
            last_error="TimeoutError",
        )
        expired = Trait(
            created_at=LazyAttribute(
                lambda made: UtcNow() - made.policy.effective_retention - A_MINUTE
            ),
            expires_at=LazyFunction(lambda: UtcNow() - A_MINUTE),
            remembered_until=LazyAttribute(
                lambda made: (
                    UtcNow() + made.policy.effective_tombstone - A_MINUTE
                    if made.policy.effective_tombstone
                    else None
                )
            ),
        )

    method = LazyAttribute(
        lambda made: made.request.method if made.request is not None else "POST"
    )
    stored_path = LazyAttribute(lambda made: made.operation.scope.path)
    key = LazyAttribute(_key)
    id = LazyAttribute(lambda made: made.operation.record_id)
    scope = LazyAttribute(lambda made: str(made.operation.scope))
    fingerprint = LazyAttribute(lambda made: made.operation.fingerprint.sign())
    state = RecordState.KEPT
    response_status = 201
    response_headers = LazyFunction(lambda: [["Content-Type", JSON]])
    response_body = LazyAttribute(
        lambda made: json.dumps(made.answer, cls=DjangoJSONEncoder).encode()
    )
    attempts = 1
    created_at = LazyFunction(UtcNow)
    completed_at = LazyFunction(UtcNow)
    expires_at = LazyAttribute(lambda made: UtcNow() + made.policy.effective_retention)
    remembered_until = LazyAttribute(_remembered_until)


def _event(made: Any) -> Event | None:
    """Return the event as its receiver would read it; ``None`` without `data`."""
    if made.data is None:
        return None
    endpoint = endpoint_named(made.endpoint)
    if endpoint is None:
        raise LookupError(
            f"No webhook endpoint is named {made.endpoint!r}. It is known when the "
            "module that declares it has been imported, as your URLconf does."
        )
    delivery = Delivery(
        body=made.body,
        headers=CaseInsensitiveMapping(made.headers),
        url="",
        received_at=0,
    )
    content = endpoint.profile.parse(delivery)
    found = next(iter(endpoint.profile.events(delivery, content)))
    return make_event(endpoint, found)


def _payload(made: Any) -> bytes:
    """What is stored of the body: of a batch, the event's own part."""
    payload: bytes = made.body if made.event is None else made.event.raw
    return payload


def _told(name: str, otherwise: Any) -> Any:
    """A column that the receiver fills, if there is one."""

    def value(made: Any) -> Any:
        return otherwise if made.event is None else getattr(made.event, name)

    return LazyAttribute(value)


def _row_id(made: Any) -> uuid.UUID:
    if made.event is not None:
        row_id: uuid.UUID = made.event.row_id
        return row_id
    return EventIdentity(
        endpoint=made.endpoint,
        source=made.source,
        account=made.account,
        event_id=made.event_id,
    ).row_id


def _object_key(made: Any) -> str:
    return "" if made.event is None else str(made.event.object_key)


def _is_ordered(made: Any) -> bool:
    endpoint = endpoint_named(made.endpoint)
    return endpoint is not None and endpoint.ordered and made.object_key != ""


class ProcessedEventFactory(_RowFactory[ProcessedEvent]):
    """Makes the row of one webhook event. Without a trait it is processed.

    With `data`, the body as JSON, it is what the receiver named `endpoint` would have
    stored, and can be run by the worker or again; `headers` are those that its profile
    reads. Without, it is a row to look at.

    Traits: `due` (in the inbox), `dead`, `dropped`, `failed` (inline), `ignored`,
    `reopened`, and `expired`.

    Raises:
        LookupError: there is `data`, and no such receiver.
    """

    class Meta:
        model = ProcessedEvent

    class Params:
        data = None
        body = LazyAttribute(
            lambda made: json.dumps(made.data or {}, cls=DjangoJSONEncoder).encode()
        )
        event = LazyAttribute(_event)

        not_done = Trait(payload=LazyAttribute(_payload))
        due = Trait(
            not_done=True,
            state=EventState.RECEIVED,
            attempts=0,
            next_attempt_at=LazyFunction(UtcNow),
            processed_at=None,
        )
        dead = Trait(
            not_done=True,
            state=EventState.DEAD,
            attempts=DEFAULT_MAX_ATTEMPTS,
            last_error="TimeoutError",
            dead_since=LazyFunction(UtcNow),
            processed_at=None,
        )
        dropped = Trait(
            state=EventState.DROPPED,
            attempts=DEFAULT_MAX_ATTEMPTS,
            last_error="TimeoutError",
            processed_at=None,
        )
        failed = Trait(
            state=EventState.FAILED,
            last_error="TimeoutError",
            processed_at=None,
        )
        ignored = Trait(not_done=True, state=EventState.IGNORED)
        reopened = Trait(state=EventState.REOPENED, uncounted_attempts=1)
        expired = Trait(
            received_at=LazyFunction(
                lambda: UtcNow() - conf.IDEMPOTENCY_EVENT_RETENTION - A_MINUTE
            ),
            expires_at=LazyFunction(lambda: UtcNow() - A_MINUTE),
        )

    endpoint = "stripe"
    source = _told("source", "stripe")
    account = _told("account", "")
    event_id = LazyAttributeSequence(
        lambda made, number: made.event.id if made.event else f"evt_{number}"
    )
    event_type = _told("type", "")
    object_key = LazyAttribute(_object_key)
    is_ordered = LazyAttribute(_is_ordered)
    body_digest = LazyAttribute(lambda made: body_digest(_payload(made)))
    headers = LazyFunction(dict)
    id = LazyAttribute(_row_id)
    state = EventState.PROCESSED
    attempts = 1
    occurred_at = _told("occurred_at", None)
    received_at = LazyFunction(UtcNow)
    processed_at = LazyFunction(UtcNow)
    expires_at = LazyFunction(lambda: UtcNow() + conf.IDEMPOTENCY_EVENT_RETENTION)
