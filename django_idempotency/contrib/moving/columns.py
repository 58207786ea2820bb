"""The columns of old packages' tables, as far as they are used.

Made when they are asked for, since a user's primary key is known only then.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Model

from .base import REGISTRY


@cache
def idempotency_record() -> type[Model]:
    class IdempotencyRecord(models.Model):  # noqa: DJ008
        key = models.CharField(max_length=255, unique=True)
        fingerprint = models.CharField(max_length=64)
        status = models.CharField(max_length=16)
        response_status_code = models.PositiveSmallIntegerField(null=True)
        response_headers = models.JSONField(default=dict)
        response_body = models.TextField()
        created_at = models.DateTimeField()
        completed_at = models.DateTimeField(null=True)
        expires_at = models.DateTimeField()

        class Meta:
            app_label = "drf_idempotency"
            apps = REGISTRY
            managed = False

    return IdempotencyRecord


@cache
def key_of_user() -> type[Model]:
    kind = get_user_model()._meta.pk.get_internal_type()
    texts: dict[str, models.Field[Any, Any]] = {
        "UUIDField": models.UUIDField(),
        "CharField": models.TextField(),
    }

    class IdempotencyKey(models.Model):  # noqa: DJ008
        key = models.UUIDField()
        user_id = texts.get(kind, models.BigIntegerField())
        last_accessed_at = models.DateTimeField(null=True)
        accessed_count = models.PositiveIntegerField()
        request_method = models.CharField(max_length=16)
        request_body = models.TextField()
        request_path = models.CharField(max_length=255)
        request_digest = models.BinaryField()
        response_code = models.PositiveSmallIntegerField(null=True)
        response_body = models.TextField()
        response_content_type = models.CharField(max_length=255)
        response_headers = models.JSONField(default=dict)
        response_cookies = models.JSONField(default=dict)
        response_saved_at = models.DateTimeField(null=True)
        created_at = models.DateTimeField()
        modified_at = models.DateTimeField()

        class Meta:
            app_label = "drf_idempotencykey"
            apps = REGISTRY
            managed = False
            unique_together = (("key", "user_id"),)

    return IdempotencyKey


@cache
def key_of_anybody() -> type[Model]:
    class IdempotencyKey(models.Model):  # noqa: DJ008
        idempotency_key = models.UUIDField(unique=True)
        created_at = models.DateTimeField()
        last_run_at = models.DateTimeField()
        locked_at = models.DateTimeField(null=True)
        request_method = models.CharField(max_length=16)
        request_params = models.TextField()
        request_path = models.CharField(max_length=255)
        request_digest = models.BinaryField()
        response_code = models.PositiveSmallIntegerField(null=True)
        response_body = models.TextField(null=True)  # noqa: DJ001 - it is their column
        recovery_point = models.CharField(max_length=64)

        class Meta:
            app_label = "rest_framework_idempotency_key"
            apps = REGISTRY
            db_table = "idempotency_key"
            managed = False

    return IdempotencyKey


@cache
def record_in(table: str) -> type[Model]:
    class Meta:
        app_label = "idemkit"
        apps = REGISTRY
        db_table = table
        managed = False

    columns = {
        "effective_key": models.TextField(primary_key=True),
        "state": models.TextField(),
        "fingerprint": models.TextField(),
        "fingerprint_version": models.IntegerField(),
        "claim_token": models.TextField(),
        "claimed_at": models.DateTimeField(),
        "lease_until": models.DateTimeField(),
        "completed_at": models.DateTimeField(null=True),
        "response_status": models.IntegerField(null=True),
        "response_headers": models.JSONField(null=True),
        "response_body": models.BinaryField(null=True),
        "schema_version": models.IntegerField(),
    }
    # Named after its table: one name for two of them would be a warning.
    return type(table, (Model,), {**columns, "__module__": __name__, "Meta": Meta})
