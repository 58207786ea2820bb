"""Where the keys were before."""

import os
import pickle
from typing import Any

from django_idempotency.contrib import moving

from .settings import OLD


def opened(stored: bytes) -> moving.StoredAnswer:
    """A reader of a project's own, which trusts its cache."""
    response: Any = pickle.loads(stored)  # noqa: S301 - what is warned of
    headers = tuple(response.headers.items())
    return moving.StoredAnswer(
        status=response.status_code, headers=headers, body=response.content
    )


def made() -> Any:
    match OLD:
        case "drf-idempotency":
            return moving.DrfIdempotency()
        case "drf-idempotencykey":
            return moving.DrfIdempotencykey()
        case "djangorestframework-idempotency-key":
            return moving.DjangorestframeworkIdempotencyKey()
        case "idemkit":
            return moving.Idemkit(scope=lambda request: str(request.user.pk))  # type: ignore[attr-defined]
        case _:
            reader = opened if os.environ.get("MOVING_READER") else None
            return moving.DjangoIdempotencyKey(
                old_processes_stopped=True, reader=reader
            )


old_store = made()
