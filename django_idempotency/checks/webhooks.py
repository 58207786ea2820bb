from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, transaction
from django.db.models import Count
from django.urls import get_resolver

from django_idempotency.conf import conf
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks.endpoints import Endpoint, endpoint_named


def check_endpoint(endpoint: Endpoint) -> Iterator[CheckMessage]:
    """Check one webhook endpoint that the URLconf leads to."""
    profile = endpoint.profile
    line = f'webhook(providers.…, secrets=…, endpoint="{endpoint.name}"'
    if not profile.retries and not endpoint.inbox:
        yield Error(
            f"The webhook {endpoint.name!r} should store its events in the inbox: "
            f"{profile.name} never sends one again, so one that fails inline is lost.",
            hint=f"    @{line}, inbox=True)",
            id="django_idempotency.E030",
        )
    if profile.stops_at_failure and not endpoint.inbox:
        yield Warning(
            f"The webhook {endpoint.name!r} should store its events in the inbox: while "
            f"one fails inline, {profile.name} sends none of the later ones.",
            hint=f"    @{line}, inbox=True)",
            id="django_idempotency.W038",
        )
    if fault := _fault_of_secrets(endpoint):
        yield Error(
            f"The webhook {endpoint.name!r} needs a secret but {fault}: every delivery "
            "is refused with 503.",
            hint=f"    @{line})  # with a secret that is not empty",
            id="django_idempotency.E031",
        )
    if endpoint.url is None and getattr(profile.verifier, "signs_url", False):
        yield Warning(
            f"The webhook {endpoint.name!r} should set url: {profile.name} signs the "
            "public address, and behind a proxy that changes host, scheme or path the "
            "request has another one, so every delivery is refused.",
            hint=f'    @{line}, url="https://shop.example/webhooks/{endpoint.name}/")',
            id="django_idempotency.W033",
        )
    if endpoint.settles and not conf.IDEMPOTENCY_FIND_CALLS and not profile.reference:
        yield Error(
            f"The webhook {endpoint.name!r} can't settle {endpoint.settles!r}: "
            f"{profile.name} names a call by its key, and IDEMPOTENCY_FIND_CALLS is "
            "False, so no key is kept.",
            hint="IDEMPOTENCY_FIND_CALLS = True",
            id="django_idempotency.E053",
        )
    retention: object = conf.IDEMPOTENCY_EVENT_RETENTION
    if isinstance(retention, timedelta) and profile.retry_horizon >= retention:
        days = profile.retry_horizon.days + 5
        yield Warning(
            "IDEMPOTENCY_EVENT_RETENTION should be longer than "
            f"{profile.retry_horizon}, for which {profile.name} sends events again, "
            f"not {retention}: a late delivery would be handled twice.",
            hint="from datetime import timedelta\n\n"
            f"IDEMPOTENCY_EVENT_RETENTION = timedelta(days={days})",
            id="django_idempotency.W032",
        )


def check_backlog(alias: str) -> Iterator[CheckMessage]:
    """Name what waits in the inbox and has no worker, or no receiver, any more.

    It was acknowledged, so nobody will send it again.
    """
    if getattr(settings, "ROOT_URLCONF", None):
        _ = get_resolver().url_patterns  # importing the views registers them
    waiting = ProcessedEvent._base_manager.using(alias).exclude(next_attempt_at=None)
    counted = waiting.order_by("endpoint").values_list("endpoint").annotate(Count("pk"))
    try:
        with transaction.atomic(using=alias):
            counts = list(counted)
    except DatabaseError:
        return  # whoever may not read the table may be somebody who only migrates
    for name, count in counts:
        endpoint = endpoint_named(name)
        events = f"{count} event{'' if count == 1 else 's'}"
        if endpoint is None:
            yield Warning(
                f"The inbox has {events} of the webhook {name!r}, which is gone: no "
                "worker can run them.",
                hint="Declare it until they are handled, with its handler, or with one "
                "that does nothing to give them up; it needs no URL:\n\n"
                f'    @webhook(providers.…, secrets=…, endpoint="{name}", inbox=True)',
                id="django_idempotency.W037",
            )
        elif not endpoint.inbox:
            yield Warning(
                f"The inbox has {events} of the webhook {name!r}, which is inline now: "
                "they are acknowledged, and without a worker nobody runs them.",
                hint="python manage.py process_events --until-empty",
                id="django_idempotency.W036",
            )


def _fault_of_secrets(endpoint: Endpoint) -> str:
    try:
        return "" if endpoint.current_secrets() else "has none"
    except Exception as error:
        return f"can't get it ({error!r})"
