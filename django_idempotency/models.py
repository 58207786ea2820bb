from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from .decisions import State

__all__ = ["IdempotencyRecord"]


class IdempotencyRecord(models.Model):
    """One claimed key: who used it where, for what, and what the answer was.

    Note [Which columns are indexed]
    Only the primary key and `expires_at`, because a later UPDATE touches neither: on
    PostgreSQL such an update stays on its page (HOT) and the indexes stay small.
    `expires_at` is written once per life of a record, when it is claimed.
    """

    class State(models.TextChoices):
        IN_FLIGHT = State.IN_FLIGHT, _("in flight")
        KEPT = State.KEPT, _("kept")
        RELEASED = State.RELEASED, _("released")
        HELD = State.HELD, _("held")

    id = models.UUIDField(
        primary_key=True,
        editable=False,
        help_text=_("Digest of scope and key: finds the record and refuses a second."),
    )
    scope = models.TextField(
        help_text=_("Whose key it is and where: principal | method | path.")
    )
    key = models.CharField(max_length=255, help_text=_("The client's key."))
    method = models.CharField(max_length=32)
    path = models.TextField()
    fingerprint = models.CharField(
        max_length=128, help_text=_("Keyed digest of query and payload.")
    )
    state = models.CharField(max_length=16, choices=State.choices)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_headers = models.JSONField(
        null=True, help_text=_("List of name and value pairs.")
    )
    response_body = models.BinaryField(
        null=True, help_text=_("Null: the body was not kept.")
    )
    effects = models.JSONField(
        default=dict, help_text=_("Results of the operation's finished steps.")
    )
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("Class of the exception that ended the last failed attempt."),
    )
    replays = models.PositiveIntegerField(default=0)
    last_replayed_at = models.DateTimeField(null=True)
    lease_token = models.UUIDField(null=True)
    lease_expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name = _("idempotency record")
        verbose_name_plural = _("idempotency records")
        constraints = [
            models.CheckConstraint(
                name="idempotency_record_state",
                condition=models.Q(state__in=[state.value for state in State]),
            ),
            # "Done" without an answer would be an eternal riddle for the client.
            models.CheckConstraint(
                name="idempotency_record_kept_has_answer",
                condition=~models.Q(state=State.KEPT.value)
                | models.Q(
                    response_status__isnull=False, response_headers__isnull=False
                ),
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at"], name="idempotency_record_expires"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.state})"
