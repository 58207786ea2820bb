"""Program: insert two records past the engine's checks and say what became of each."""

from __future__ import annotations

import sys
from datetime import timedelta

import django


def main() -> None:
    django.setup()
    for principal in ("auth.User:1", "anonymous"):
        sys.stdout.write(f"{insert(principal)}\n")


def insert(principal: str) -> str:
    from django.db import IntegrityError
    from django.db.models.functions import Now

    from django_idempotency.fingerprints import fingerprint_of
    from django_idempotency.models import IdempotencyRecord
    from django_idempotency.operations import Operation, Scope

    operation = Operation(
        scope=Scope(principal=principal, method="POST", path="/orders/"),
        key="11111111-2222-4333-8444-555555555555",
        fingerprint=fingerprint_of(b""),
        wait=timedelta(0),
        retention=timedelta(hours=1),
    )
    try:
        IdempotencyRecord.objects.create(
            id=operation.record_id,
            scope=str(operation.scope),
            key=operation.key,
            state="in_flight",
            created_at=Now(),
            expires_at=Now() + operation.retention,
        )
    except IntegrityError:
        return "refused"
    return "inserted"


if __name__ == "__main__":
    main()
