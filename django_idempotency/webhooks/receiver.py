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

from django_idempotency.bodies import raw_body

from .deliveries import Delivery, Rejected, Verified
from .endpoints import Endpoint, make_event
from .events import Event
from .handling import ACKNOWLEDGED, Outcome, Result, receive_event
from .profiles import Reply, UnusableDelivery

__all__ = ["receive"]

logger = logging.getLogger("django_idempotency")

WITHOUT_SECRET_RETRY_AFTER = timedelta(minutes=1)


def receive(endpoint: Endpoint, request: HttpRequest) -> HttpResponse:
    """Answer one request to a webhook endpoint.

    Raises:
        ImproperlyConfigured: if something has consumed the raw body before.
    """
    if request.method in ("GET", "HEAD"):
        return HttpResponse()  # a provider's probe
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
            f"Something read the body before the webhook {endpoint.name!r} could: its "
            "signature is over the raw bytes. Let no middleware or parser go first."
        ) from error


def _secrets(endpoint: Endpoint) -> tuple[str, ...]:
    """Return the secrets; none if they can't be had, so that nothing is verified."""
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
    """Ask the verifier; a project's own that raises has not verified anything."""
    try:
        return endpoint.profile.verifier.verify(delivery, secrets)
    except Exception as error:
        return Rejected(f"malformed ({type(error).__name__})")


def _public_url(endpoint: Endpoint, request: HttpRequest) -> str:
    """Return the address as the provider has it, with the query that it was called by."""
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
            make_event(endpoint, found, raw=delivery.body, attempt=1)
            for found in profile.events(delivery, content)
        ]
    except UnusableDelivery as error:
        _warn(endpoint, "unusable", error)
        return HttpResponse("The delivery can't be used.", status=400)
    results = [
        receive_event(endpoint, event, wait=wait)
        for event, wait in zip(
            _once_each(endpoint, events), _waits(endpoint.wait), strict=False
        )
    ]
    return _answer(endpoint, results)


def _once_each(endpoint: Endpoint, events: list[Event]) -> list[Event]:
    """Return the events in the order in which they are claimed.

    It is the same for everybody: inside a transaction that somebody else opened, two
    batches with common events would deadlock. Only what is to be kept in order keeps
    the provider's.
    """
    once: dict[object, Event] = {}
    for event in events:
        once.setdefault(event.row_id, event)
    if endpoint.ordered:
        return list(once.values())
    return sorted(once.values(), key=lambda event: event.row_id)


def _waits(limit: timedelta) -> Iterator[timedelta]:
    """Yield what is left of the delivery's one wait, however many events it has."""
    end = time.monotonic() + limit.total_seconds()
    while True:
        yield timedelta(seconds=max(0.0, end - time.monotonic()))


def _answer(endpoint: Endpoint, results: list[Result]) -> HttpResponse:
    """Acknowledge only if every event of the delivery may be forgotten."""
    open_ = [each for each in results if each.outcome not in ACKNOWLEDGED]
    if not open_:
        return _reply(endpoint.profile.success)
    if any(each.outcome is Outcome.FAILED for each in open_):
        return HttpResponse("The event was not handled.", status=500)
    after = max(each.retry_after for each in open_)
    if all(each.outcome is Outcome.BUSY for each in open_):
        return _later(endpoint.profile.busy_status, after)
    return _later(503, after)


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
