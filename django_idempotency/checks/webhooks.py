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
            f"The webhook {endpoint.name!r} handles events inline, but {profile.name} "
            "never sends one again: whatever fails is lost.",
            hint=f"    @{line}, inbox=True)",
            id="django_idempotency.E030",
        )
    if fault := _fault_of_secrets(endpoint):
        yield Error(
            f"The webhook {endpoint.name!r} {fault}: every delivery is refused with "
            "503.",
            hint=f"    @{line})  # with a secret that is not empty",
            id="django_idempotency.E031",
        )
    if endpoint.url is None and getattr(profile.verifier, "signs_url", False):
        yield Warning(
            f"{profile.name} signs the public address, and the webhook "
            f"{endpoint.name!r} takes it from the request: behind a proxy that changes "
            "host, scheme or path every delivery is refused.",
            hint=f'    @{line}, url="https://shop.example/webhooks/{endpoint.name}/")',
            id="django_idempotency.W033",
        )
    retention: object = conf.IDEMPOTENCY_EVENT_RETENTION
    if isinstance(retention, timedelta) and profile.retry_horizon >= retention:
        days = profile.retry_horizon.days + 5
        yield Warning(
            f"Events are forgotten after {retention}, but "
            f"{profile.name} sends them again for {profile.retry_horizon}: a late "
            "delivery would be handled twice.",
            hint="from datetime import timedelta\n\n"
            f"IDEMPOTENCY_EVENT_RETENTION = timedelta(days={days})",
            id="django_idempotency.W032",
        )


def _fault_of_secrets(endpoint: Endpoint) -> str:
    try:
        return "" if endpoint.current_secrets() else "has no secret"
    except Exception as error:
        return f"can't get its secrets ({error!r})"
