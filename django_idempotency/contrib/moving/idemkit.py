"""idemkit 1.0.2 on PostgreSQL, whose table isn't made by Django."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string

from django_idempotency.core.decisions import InFlight, Mismatch, Replay, Verdict
from django_idempotency.core.keys import parse_key
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.http.moving import Asked
from django_idempotency.store.old_rows import Identity

from . import columns
from .base import UNREADABLE, TableStore, headers_of

FINGERPRINTS = "idemkit.core.fingerprint"
NOBODY = "_idemkit_anonymous"
"""The scope where its configuration names none."""


class Idemkit(TableStore):
    """idemkit 1.0.2 with its ``PostgresBackend``; it has to stay installed meanwhile.

    `scope` is what its configuration has as ``scope``, but gets Django's request.

    Raises:
        ImproperlyConfigured: it isn't installed, or `scope` isn't a function.
    """

    def __init__(
        self,
        *,
        scope: Callable[[HttpRequest], str] | None,
        table: str = "idemkit_records",
        take_over: bool = False,
    ) -> None:
        super().__init__(take_over=take_over)
        if scope is not None and not callable(scope):
            raise ImproperlyConfigured(
                f"scope={scope!r} must be a function of the request that returns what "
                "HttpConfig's scope does, or None if that has none."
            )
        self.scope = scope
        self.table = table
        try:
            self._effective_key = import_string(f"{FINGERPRINTS}.compute_effective_key")
            self._fingerprint = import_string(f"{FINGERPRINTS}.compute_fingerprint")
        except ImportError as error:
            raise ImproperlyConfigured(
                "Idemkit finds idemkit's keys by idemkit's own functions, so leave the "
                "package installed until the move is over:\n\n"
                '    pip install "idemkit==1.0.2"'
            ) from error

    @cached_property
    def model(self) -> type[Model]:
        return columns.record_in(self.table)

    def identity(self, asked: Asked) -> Identity:
        request = asked.request
        scope = NOBODY if self.scope is None else self.scope(request)
        key = parse_key(asked.key)
        digest = self._effective_key(key, scope, request.method, request.path)
        return {"effective_key": digest}

    def claimed(self, asked: Asked) -> dict[str, Any]:
        now = timezone.now()
        return {
            "state": "CLAIMED",
            "fingerprint": self._fingerprint_of(asked),
            "fingerprint_version": 1,
            "claim_token": secrets.token_hex(16),
            "claimed_at": now,
            "lease_until": now + asked.retention,
            "completed_at": None,
            "response_status": None,
            "response_headers": None,
            "response_body": None,
            "schema_version": 1,
        }

    def answered(self, asked: Asked, answer: StoredAnswer) -> dict[str, Any]:
        if answer.body is None:
            answer = UNREADABLE
        now = timezone.now()
        return {
            "state": "COMPLETED",
            "completed_at": now,
            "lease_until": now + asked.retention,
            "response_status": answer.status,
            "response_headers": headers_of(answer),
            "response_body": answer.body,
        }

    def verdict_of(self, row: Any, asked: Asked) -> Verdict | None:
        # A clock that runs ahead must not see the end of a lease before it is there.
        is_over = row.lease_until < timezone.now() - timedelta(seconds=1)
        if row.state == "COMPLETED" and is_over:
            return None
        if row.fingerprint != self._fingerprint_of(asked):
            return Mismatch()
        if row.state != "COMPLETED":
            return self.abandoned() if is_over else InFlight()
        return Replay(
            StoredAnswer(
                status=row.response_status,
                headers=tuple((row.response_headers or {}).items()),
                body=bytes(row.response_body or b""),
            )
        )

    def _fingerprint_of(self, asked: Asked) -> str:
        request = asked.request
        found: str = self._fingerprint(
            request.method,
            request.path,
            request.META.get("QUERY_STRING", ""),
            asked.body,
            request.META.get("CONTENT_TYPE"),
        )
        return found
