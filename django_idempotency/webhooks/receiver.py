"""One delivery: verify, claim, handle or store, and answer so that nothing gets lost.

A delivery is answered with 2xx only when each of its events is done, a duplicate of
something done, or stored with its payload. Everything else asks for another delivery.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.http.request import RawPostDataException

from django_idempotency.http.bodies import raw_body

from .deliveries import Delivery, Rejected, Verified
from .endpoints import Endpoint, make_event
from .events import Event
from .places import UnusableDelivery
from .profiles import Reply
from .reception import Acknowledged, Failed, Later, Reception, receive_event

logger = logging.getLogger("django_idempotency")

WITHOUT_SECRET_RETRY_AFTER = timedelta(minutes=1)


def receive(endpoint: Endpoint, request: HttpRequest) -> HttpResponse:
    """Answer one request to a webhook endpoint.

    Raises:
        ImproperlyConfigured: if something has read the raw body before.
    """
    if request.method in ("GET", "HEAD"):
        return HttpResponse()  # a provider checks whether the URL exists
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "GET, HEAD, POST"})
    profile = endpoint.profile
    body = _body(endpoint, request)
    if body is None:
        return HttpResponse("The body is too large.", status=413)
    secrets = _secrets(endpoint)
    if not secrets:
        return _later(503, WITHOUT_SECRET_RETRY_AFTER)
    delivery = Delivery(
        body=body,
        headers=request.headers,
        url=_public_url(endpoint, request),
        received_at=time.time(),
    )
    verdict = _verdict(endpoint, delivery, secrets)
    if isinstance(verdict, Rejected):
        _warn(endpoint, "rejected", verdict.reason)
        return HttpResponse("Not verified.", status=profile.rejected_status)
    return _receive_verified(endpoint, delivery)


def _body(endpoint: Endpoint, request: HttpRequest) -> bytes | None:
    try:
        return raw_body(request, endpoint.profile.max_body)
    except RawPostDataException as error:
        raise ImproperlyConfigured(
            f"Something read the body before the webhook {endpoint.name!r} could: the "
            "signature covers the raw bytes. No middleware or parser may read it first."
        ) from error


def _secrets(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the secrets; none if they can't be fetched, so nothing is verified."""
    try:
        secrets = endpoint.current_secrets()
        problem = None
    except Exception as error:
        secrets, problem = (), error
    if not secrets:
        logger.error(
            "webhook without a secret: nothing can be verified",
            exc_info=problem,
            extra={"action": "unverifiable", "endpoint": endpoint.name},
        )
    return secrets


def _verdict(
    endpoint: Endpoint, delivery: Delivery, secrets: tuple[str, ...]
) -> Verified | Rejected:
    """Ask the verifier; if a project's own one raises, nothing is verified."""
    try:
        return endpoint.profile.verifier.verify(delivery, secrets)
    except Exception as error:
        return Rejected(f"malformed ({type(error).__name__})")


def _public_url(endpoint: Endpoint, request: HttpRequest) -> str:
    """Return the URL as the provider has it, with the request's query."""
    if endpoint.url is None:
        return request.build_absolute_uri()
    query = request.META.get("QUERY_STRING", "")
    return (
        f"{endpoint.url}?{query}" if query and "?" not in endpoint.url else endpoint.url
    )


def _receive_verified(endpoint: Endpoint, delivery: Delivery) -> HttpResponse:
    profile = endpoint.profile
    try:
        content = profile.parse(delivery)
        if profile.challenge and (reply := profile.challenge(content)):
            return _reply(reply)
        events = [
            make_event(endpoint, found) for found in profile.events(delivery, content)
        ]
    except UnusableDelivery as error:
        _warn(endpoint, "unusable", error)
        return HttpResponse("The delivery can't be used.", status=400)
    receptions = [
        receive_event(endpoint, event, wait=wait)
        for event, wait in zip(
            _once_each(endpoint, events), _waits(endpoint.wait), strict=False
        )
    ]
    return _answer(endpoint, receptions)


def _once_each(endpoint: Endpoint, events: list[Event]) -> list[Event]:
    """Return the events in the order in which they are claimed.

    It is the same in every delivery: inside an outer transaction, two batches with
    common events would otherwise deadlock. Only an ordered inbox keeps the provider's
    order.
    """
    once: dict[object, Event] = {}
    for event in events:
        once.setdefault(event.row_id, event)
    if endpoint.ordered:
        return list(once.values())
    return sorted(once.values(), key=lambda event: event.row_id)


def _waits(limit: timedelta) -> Iterator[timedelta]:
    """Yield the rest of the delivery's single wait before each of its events."""
    end = time.monotonic() + limit.total_seconds()
    while True:
        yield timedelta(seconds=max(0.0, end - time.monotonic()))


def _answer(endpoint: Endpoint, receptions: list[Reception]) -> HttpResponse:
    """Acknowledge only if every event of the delivery may be forgotten."""
    if all(isinstance(each, Acknowledged) for each in receptions):
        return _reply(endpoint.profile.success)
    if any(isinstance(each, Failed) for each in receptions):
        return HttpResponse("The event was not handled.", status=500)
    later = [each for each in receptions if isinstance(each, Later)]
    is_busy = all(each.is_busy for each in later)
    status = endpoint.profile.busy_status if is_busy else 503
    return _later(status, max(each.after for each in later))


def _reply(reply: Reply) -> HttpResponse:
    return HttpResponse(
        reply.body,
        status=reply.status,
        content_type=reply.content_type,
        headers=dict(reply.headers),
    )


def _later(status: int, after: timedelta) -> HttpResponse:
    seconds = max(1, math.ceil(after.total_seconds()))
    return HttpResponse(
        "Not now.", status=status, headers={"Retry-After": str(seconds)}
    )


def _warn(endpoint: Endpoint, action: str, reason: object) -> None:
    logger.warning(
        "webhook %s: %s",
        action,
        reason,
        extra={"action": action, "endpoint": endpoint.name},
    )
