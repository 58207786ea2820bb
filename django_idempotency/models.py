from __future__ import annotations

from typing import Any

from django.db import models, router, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from .conf import conf
from .decisions import State
from .fields import DigestField, UtcNow
from .memory import Memory

__all__ = ["IdempotencyRecord", "ProcessedEvent"]


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

    id = DigestField(
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
        default=dict, help_text=_("What the operation remembers of its steps.")
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
        permissions = [("settle_idempotencyrecord", "Can settle a held operation")]

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.state})"

    def settle(
        self, *, applied: bool, result: Any = None, reason: str, by: str = ""
    ) -> None:
        """Release a held operation, now that a person has found out what happened.

        `applied`: the call whose outcome was unknown has happened, and `result` is what
        its function would have returned; the client's retry goes on after it. Otherwise
        it has not, and the retry calls again. Who and why is recorded, and the retention
        begins anew, or that retry would be a new operation.

        Raises:
            ValueError: there is no reason, or the record is not held, or its owner still
                has a live lease.
            TypeError: the result is no JSON.
        """
        if not reason.strip():
            raise ValueError("Say how it was found out.")
        using = self._state.db or router.db_for_write(type(self))
        rows = IdempotencyRecord._base_manager.using(using).filter(pk=self.pk)
        with transaction.atomic(using=using):
            held = rows.filter(state=State.HELD).exclude(lease_expires_at__gt=UtcNow())
            effects = held.select_for_update().values_list("effects", flat=True).first()
            if effects is None:
                raise ValueError("The operation is not held, or it is still running.")
            note = {"at": timezone.now().isoformat(), "by": by, "reason": reason}
            memory = Memory(effects)
            memory.settle(applied=applied, result=result, note=note)
            rows.update(
                state=State.RELEASED,
                effects=memory.effects,
                lease_token=None,
                lease_expires_at=None,
                expires_at=UtcNow() + conf.IDEMPOTENCY_RETENTION,
            )
        self.refresh_from_db(using=using)


class ProcessedEvent(models.Model):
    """One webhook event: who sent it where, and what became of it.

    The row and the writes of its handler commit together. `next_attempt_at` is set for
    what waits in the inbox and for nothing else: its partial index is small, and the
    one index here whose column a later update changes.
    """

    class State(models.TextChoices):
        RECEIVED = "received", _("received")
        """Stored with its payload, or claimed by a transaction that is still open."""
        PROCESSED = "processed", _("processed")
        FAILED = "failed", _("failed")
        """The last attempt was rolled back; another will follow."""
        IGNORED = "ignored", _("ignored")
        """There was no handler; the payload is kept for when there is one."""
        DEAD = "dead", _("dead")
        """Given up; a person decides. The payload is kept."""

    id = DigestField(
        primary_key=True,
        editable=False,
        help_text=_("Digest of endpoint, source, account and event id."),
    )
    endpoint = models.CharField(
        max_length=255, help_text=_("The name that the code gives this receiver.")
    )
    source = models.CharField(max_length=64, help_text=_("The provider's profile."))
    account = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("Whose events these are, and of which mode: test or live."),
    )
    event_id = models.CharField(
        max_length=255, help_text=_("The provider's id; if too long, its digest.")
    )
    event_type = models.CharField(max_length=255, blank=True, default="")
    object_key = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("What the event is about; such events can be kept in order."),
    )
    body_digest = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=16, choices=State.choices)
    payload = models.BinaryField(
        null=True, help_text=_("The raw body; cleared when the event is processed.")
    )
    headers = models.JSONField(
        default=dict, help_text=_("Those that say what the event is; no signatures.")
    )
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    last_error = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("Class of the exception that ended the last failed attempt."),
    )
    reruns = models.JSONField(
        default=list, help_text=_("Who ran it again, when and why.")
    )
    occurred_at = models.DateTimeField(null=True)
    received_at = models.DateTimeField()
    processed_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        permissions = [("rerun_processedevent", "Can run a webhook event again")]
        constraints = [
            models.CheckConstraint(
                name="idempotency_event_state",
                condition=models.Q(
                    state__in=["received", "processed", "failed", "ignored", "dead"]
                ),
            ),
            # Acknowledged without being done: then it must be there for a person.
            models.CheckConstraint(
                name="idempotency_event_unfinished_has_payload",
                condition=~models.Q(state__in=["ignored", "dead"])
                | models.Q(payload__isnull=False),
            ),
            models.CheckConstraint(
                name="idempotency_event_due_has_payload",
                condition=models.Q(next_attempt_at__isnull=True)
                | models.Q(payload__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at"], name="idempotency_event_expires"),
            models.Index(
                fields=["next_attempt_at"],
                condition=models.Q(next_attempt_at__isnull=False),
                name="idempotency_event_due",
            ),
            models.Index(
                fields=["endpoint", "object_key"],
                condition=models.Q(next_attempt_at__isnull=False),
                name="idempotency_event_order",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.event_type} ({self.state})"
