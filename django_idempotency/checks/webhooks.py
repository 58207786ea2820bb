from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from django.core.checks import CheckMessage, Error, Warning

from django_idempotency.conf import conf
from django_idempotency.webhooks.endpoints import Endpoint


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


def _fault_of_secrets(endpoint: Endpoint) -> str:
    try:
        return "" if endpoint.current_secrets() else "has none"
    except Exception as error:
        return f"can't get it ({error!r})"
