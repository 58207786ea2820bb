"""Packages that keep their keys in tables which Django has made.

What is known of them was read in the versions that are named, as they are installed.
"""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import timedelta
from functools import cached_property
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Model
from django.utils import timezone

from django_idempotency.core.decisions import InFlight, Mismatch, Replay, Verdict
from django_idempotency.core.operations import StoredAnswer
from django_idempotency.http.moving import Asked
from django_idempotency.store.old_rows import Identity

from . import columns
from .base import (
    UNREADABLE,
    TableStore,
    digest_of,
    headers_of,
    setting,
    text_of,
    type_of,
    uuid_of,
)

JSON = "application/json"


class DrfIdempotency(TableStore):
    """drf-idempotency 1.0.0, with its ``DatabaseBackend``.

    Raises:
        ImproperlyConfigured: its setting ``IDEMPOTENCY`` names another backend.
    """

    BACKEND = "drf_idempotency.backends.database.DatabaseBackend"

    def __init__(self, *, take_over: bool = False) -> None:
        super().__init__(take_over=take_over)
        backend = getattr(settings, "IDEMPOTENCY", {}).get("BACKEND", self.BACKEND)
        if backend != self.BACKEND:
            raise ImproperlyConfigured(
                f"DrfIdempotency reads the table of DatabaseBackend, and not {backend}: "
                "what is there can't be claimed in one transaction with our record. Stop "
                "the old processes first, and ask their backend in a function. Write\n\n"
                "    old_store = HandWritten(find, old_processes_stopped=True)"
            )

    @cached_property
    def model(self) -> type[Model]:
        return columns.idempotency_record()

    def identity(self, asked: Asked) -> Identity | None:
        # With its quotes it may be too long for the column, and so for the old package.
        return {"key": asked.key} if len(asked.key) <= self.LONGEST_KEY else None

    def claimed(self, asked: Asked) -> dict[str, Any]:
        now = timezone.now()
        return {
            "fingerprint": self._fingerprint(asked),
            "status": "in_progress",
            "response_status_code": None,
            "response_headers": {},
            "response_body": "",
            "created_at": now,
            "completed_at": None,
            "expires_at": now + asked.retention,
        }

    def answered(self, asked: Asked, answer: StoredAnswer) -> dict[str, Any]:
        if answer.body is None:
            answer = UNREADABLE
        now = timezone.now()
        return {
            "status": "completed",
            "response_status_code": answer.status,
            "response_headers": headers_of(answer),
            "response_body": base64.b64encode(answer.body or b"").decode(),
            "completed_at": now,
            "expires_at": now + asked.retention,
        }

    def verdict_of(self, row: Any, asked: Asked) -> Verdict | None:
        is_over = row.expires_at <= timezone.now()
        if row.status != "completed":
            if row.fingerprint != self._fingerprint(asked):
                return Mismatch()
            return self.abandoned() if is_over else InFlight()
        if is_over:
            return None
        if row.fingerprint != self._fingerprint(asked):
            return Mismatch()
        return Replay(
            StoredAnswer(
                status=row.response_status_code,
                headers=tuple((row.response_headers or {}).items()),
                body=base64.b64decode(row.response_body),
            )
        )

    def _fingerprint(self, asked: Asked) -> str:
        request = asked.request
        lines = [(request.method or "").encode(), request.path.encode(), asked.body]
        return hashlib.sha256(b"\n".join(lines)).hexdigest()


class DrfIdempotencykey(TableStore):
    """drf-idempotencykey 0.2.0; its keys are UUIDs, and those of signed-in users.

    `expiration` is its own setting's, ``IDEMPOTENCY_KEY_EXPIRATION_MINUTES``, by default.
    """

    def __init__(
        self, *, expiration: timedelta | None = None, take_over: bool = False
    ) -> None:
        super().__init__(take_over=take_over)
        self.expiration = (
            expiration
            or setting("IDEMPOTENCY_KEY_EXPIRATION_MINUTES", "minutes")
            or timedelta(hours=1)
        )

    @cached_property
    def model(self) -> type[Model]:
        return columns.key_of_user()

    def identity(self, asked: Asked) -> Identity | None:
        key, user = uuid_of(asked.key), getattr(asked.request, "user", None)
        if key is None or user is None or not user.is_authenticated:
            return None
        return {"key": key, "user_id": user.pk}

    def claimed(self, asked: Asked) -> dict[str, Any]:
        now = timezone.now()
        return {
            "last_accessed_at": now,
            "accessed_count": 1,
            "request_method": asked.request.method,
            "request_body": "",
            "request_path": asked.request.get_full_path()[: self.LONGEST_PATH],
            "request_digest": self._digest(asked),
            "response_code": None,
            "response_body": "",
            "response_content_type": "",
            "response_headers": {},
            "response_cookies": {},
            "response_saved_at": None,
            "created_at": now,
            "modified_at": now,
        }

    def answered(self, asked: Asked, answer: StoredAnswer) -> dict[str, Any]:
        answer, text = text_of(answer)
        return {
            "response_code": answer.status,
            "response_body": text,
            "response_content_type": type_of(answer)[: self.LONGEST_PATH],
            "response_headers": headers_of(answer, "content-type"),
            "response_saved_at": timezone.now(),
        }

    def verdict_of(self, row: Any, asked: Asked) -> Verdict | None:
        is_over = row.created_at < timezone.now() - self.expiration
        if is_over and row.response_code:
            return None
        if bytes(row.request_digest) != self._digest(asked):
            return Mismatch()
        if not row.response_code:
            return self.abandoned() if is_over else InFlight()
        kind, body = row.response_content_type, row.response_body.encode()
        is_text = any(each in kind for each in ("json", "text", "application/xml"))
        return Replay(
            StoredAnswer(
                status=row.response_code,
                headers=(
                    *((row.response_headers or {}).items()),
                    *([("Content-Type", kind)] if kind else []),
                ),
                body=body if is_text or not kind else None,  # it keeps no other body
            )
        )

    def _digest(self, asked: Asked) -> bytes:
        request = asked.request
        where = request.get_full_path().encode()
        return digest_of((request.method or "").encode(), where, asked.body)


class DjangorestframeworkIdempotencyKey(TableStore):
    """djangorestframework-idempotency-key 1.0.3; its keys are UUIDs, of whomever.

    `lock_timeout` is its own setting's, ``IDEMPOTENCY_KEY_LOCK_TIMEOUT``, by default;
    without either, the time of a claim is never over.
    """

    def __init__(
        self, *, lock_timeout: timedelta | None = None, take_over: bool = False
    ) -> None:
        super().__init__(take_over=take_over)
        self.lock_timeout = lock_timeout or setting(
            "IDEMPOTENCY_KEY_LOCK_TIMEOUT", "seconds"
        )

    @cached_property
    def model(self) -> type[Model]:
        return columns.key_of_anybody()

    def identity(self, asked: Asked) -> Identity | None:
        key = uuid_of(asked.key)
        if key is None or asked.request.method not in ("PATCH", "POST", "PUT"):
            return None
        return {"idempotency_key": key}

    def claimed(self, asked: Asked) -> dict[str, Any]:
        now = timezone.now()
        return {
            "created_at": now,
            "last_run_at": now,
            "locked_at": now,
            "request_method": asked.request.method,
            "request_params": "",
            "request_path": asked.request.path_info[: self.LONGEST_PATH],
            "request_digest": self._digest(asked),
            "response_code": None,
            "response_body": None,
            "recovery_point": "started",
        }

    def answered(self, asked: Asked, answer: StoredAnswer) -> dict[str, Any]:
        answer, text = text_of(answer)
        if answer.body == b"":
            text = "null"
        try:
            json.loads(text)
        except ValueError:  # it reads JSON, and nothing else
            answer, text = text_of(UNREADABLE)
        return {
            "response_code": answer.status,
            "response_body": text,
            "recovery_point": "finished",
            "locked_at": None,
        }

    def verdict_of(self, row: Any, asked: Asked) -> Verdict | None:
        if bytes(row.request_digest) != self._digest(asked):
            return Mismatch()
        if row.recovery_point == "finished":
            # The only thing that it keeps is data; a renderer makes no bytes of None.
            is_empty = row.response_body == "null"
            return Replay(
                StoredAnswer(
                    status=row.response_code,
                    headers=() if is_empty else (("Content-Type", JSON),),
                    body=b"" if is_empty else row.response_body.encode(),
                )
            )
        if row.locked_at is not None and not self._is_over(row.locked_at):
            return InFlight()
        if row.locked_at is None and row.recovery_point == "started":
            return None  # its work was rolled back with its answer
        return self.abandoned()

    def _is_over(self, locked_at: Any) -> bool:
        timeout = self.lock_timeout
        return timeout is not None and bool(locked_at <= timezone.now() - timeout)

    def _digest(self, asked: Asked) -> bytes:
        request = asked.request
        where = request.path_info.encode()
        return digest_of((request.method or "").encode(), where, asked.body)
