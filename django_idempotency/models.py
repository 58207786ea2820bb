from __future__ import annotations

import logging
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router, transaction
from django.db.models import Case, Exists, OuterRef, Q, When, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from . import signals
from .conf import conf
from .core import at_rest
from .core.decisions import RecordState
from .core.events import EventState
from .core.history import Happening, with_note
from .core.journal import Journal
from .core.links import LinkKind
from .core.operations import on_one_line, reference_of
from .core.seen import changed_since, described, seen_as, told
from .fields import DigestField, JSONText, UtcNow, with_zone

if TYPE_CHECKING:
    # With the type for a column that may be null, which only Django's own fields have.
    from django.db.models import DateTimeField as MomentField
else:
    from .fields import MomentField

__all__ = [
    "HourlyCount",
    "IdempotencyRecord",
    "OperationIntent",
    "OperationLink",
    "ProcessedEvent",
]

# Else Django says what is wrong with a model that the reader has never heard of.
if apps.apps_ready and not apps.is_installed("django_idempotency"):
    raise ImproperlyConfigured(
        "django_idempotency is imported, but not installed. In the settings write\n\n"
        '    INSTALLED_APPS = [..., "django_idempotency"]'
    )


logger = logging.getLogger("django_idempotency")

LOST = Q(state=RecordState.IN_FLIGHT, lease_expires_at=None)
"""Committed in the middle of its work: see Note [The transaction of the claim]."""


DONE_WITHOUT_ANSWER = {"response_status": 0, "response_headers": []}
"""Nobody has the answer of an operation that a person knows to be done."""


class RecordQuerySet(models.QuerySet["IdempotencyRecord"]):
    """What people ask about operations. Times are compared by the database's clock."""

    def held(self) -> RecordQuerySet:
        """Operations whose outcome is unknown: each waits for a person.

        Not those whose call is being made at this moment; but those whose work has ended
        the transaction of their claim, and so committed it without an answer.
        """
        return self.filter(Q(state=RecordState.HELD) | LOST).exclude(
            lease_expires_at__gt=UtcNow()
        )

    def in_flight(self) -> RecordQuerySet:
        """Operations of the leased shape that are running: their lease is live.

        A claim of the atomic shape is never among them, since nobody sees it before it
        is committed with its answer.
        """
        return self.filter(lease_expires_at__gt=UtcNow())

    def locked_journal(
        self, *, skip_locked: bool = False
    ) -> tuple[Journal | None, Any]:
        """Lock the one row, and return its journal and the rest; for `settle`."""
        columns = ("effects", "earlier_steps", "pk")
        times = ("history", "expires_at", "remembered_until")
        locked = self.select_for_update(skip_locked=skip_locked)
        found = locked.values_list(*columns, *times).first()
        if found is None:
            return None, None
        return Journal(*found[: len(columns)]), found[len(columns) :]

    def write_settlement(
        self,
        journal: Journal,
        seen: Any,
        *,
        applied: bool,
        result: Any,
        by: str,
        reason: str,
    ) -> None:
        """Release the locked row with what has become of its call; for `settle`."""
        history, expires_at, remembered_until = seen
        expires = UtcNow() + conf.IDEMPOTENCY_RETENTION
        # As long a tombstone as it was claimed with.
        is_remembered = remembered_until is not None
        remembered = (
            expires + (remembered_until - expires_at) if is_remembered else None
        )
        # No step is left for a retry to go on after: all of it is done.
        is_done = applied and journal.unfinished is None
        told = {"by": by, "reason": reason}
        at = timezone.now().isoformat()
        journal.settle(applied=applied, result=result, note={"at": at, **told})
        memory = journal.memory(whole=True)
        note = {"what": Happening.SETTLED, "applied": applied, **told}
        self.update(
            **(DONE_WITHOUT_ANSWER if is_done else {}),
            state=RecordState.KEPT if is_done else RecordState.RELEASED,
            effects=journal.effects,
            earlier_steps=memory.earlier_steps or None,
            lease_token=None,
            lease_expires_at=None,
            held_since=None,
            history=with_note(history, note),
            expires_at=expires,
            remembered_until=remembered,
        )

    def expired(self) -> RecordQuerySet:
        """Records past their retention: what a purge would work off now.

        It deletes them, or only their answers where there is a tombstone. Never one that
        is held, or whose lease is live.
        """
        return (
            self.filter(expires_at__lte=UtcNow())
            .exclude(Q(state=RecordState.HELD) | LOST)
            .exclude(lease_expires_at__gt=UtcNow())
        )


class IdempotencyRecord(models.Model):
    """One claimed key: who used it and where, for what, and what the answer was.

    Note [Which columns are indexed]
    The primary key, `key` and `expires_at`, because a later UPDATE touches none of them:
    on PostgreSQL such an update stays on its page (HOT) and the indexes stay small.
    `expires_at` is written once per life of a record, when it is claimed, and by the
    purge when it becomes a tombstone. `held_since`
    is in an index only where it isn't null, which is rare; an index with a condition on
    `state` would take each update off its page.
    """

    class State(models.TextChoices):
        IN_FLIGHT = RecordState.IN_FLIGHT, _("in flight")
        KEPT = RecordState.KEPT, _("kept")
        RELEASED = RecordState.RELEASED, _("released")
        HELD = RecordState.HELD, _("held")
        EXPIRED = RecordState.EXPIRED, _("expired")

    id = DigestField(
        primary_key=True,
        editable=False,
        help_text=_(
            "Digest of scope and key; identifies the record and prevents a second one."
        ),
    )
    scope = models.TextField(
        help_text=_("Whose key it is and where: principal | method | path.")
    )
    key = models.CharField(max_length=255, help_text=_("The client's key."))
    method = models.CharField(_("method"), max_length=32)
    path = models.TextField()
    fingerprint = models.CharField(
        max_length=128, help_text=_("Keyed digest of query and payload.")
    )
    state = models.CharField(_("state"), max_length=16, choices=State.choices)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_headers = models.JSONField(
        null=True, help_text=_("List of name and value pairs.")
    )
    response_body = models.BinaryField(
        null=True, help_text=_("Null: the body was not kept.")
    )
    effects = JSONText(
        default=dict, help_text=_("What the operation remembers of its last steps.")
    )
    earlier_steps = models.TextField(  # noqa: DJ001 - nearly all rows have none
        null=True,
        editable=False,
        help_text=_("The steps before those, if there are many."),
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    last_error = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("Class of the exception that ended the last failed attempt."),
    )
    replays = models.PositiveIntegerField(_("repeats"), default=0)
    last_replayed_at = MomentField(null=True)
    history = models.JSONField(
        default=list,
        help_text=_(
            "The first thing that happened and the last ones, with their times."
        ),
    )
    held_since = MomentField(
        null=True,
        help_text=_("Since when an outcome is unknown, or may be."),
    )
    lease_token = models.UUIDField(null=True)
    lease_expires_at = MomentField(null=True)
    created_at = MomentField(_("first seen"))
    completed_at = MomentField(null=True)
    expires_at = MomentField(_("kept until"))
    remembered_until = MomentField(
        null=True,
        help_text=_("Until when a repeat is refused whose answer isn't kept any more."),
    )

    objects = models.Manager.from_queryset(RecordQuerySet)()

    class Meta:
        verbose_name = _("idempotency record")
        verbose_name_plural = _("idempotency records")
        constraints = [
            models.CheckConstraint(
                name="idempotency_record_state",
                condition=models.Q(state__in=[state.value for state in RecordState]),
            ),
            # A record that is done but has no answer could never be replayed.
            models.CheckConstraint(
                name="idempotency_record_kept_has_answer",
                condition=~models.Q(state=RecordState.KEPT.value)
                | models.Q(
                    response_status__isnull=False, response_headers__isnull=False
                ),
            ),
        ]
        indexes = [
            models.Index(fields=["expires_at"], name="idempotency_record_expires"),
            models.Index(fields=["key"], name="idempotency_record_key"),
            models.Index(
                fields=["held_since"],
                condition=models.Q(held_since__isnull=False),
                name="idempotency_record_held",
            ),
        ]
        permissions = [
            ("settle_idempotencyrecord", "Can settle a held operation"),
            ("release_idempotencyrecord", "Can release a stuck key"),
            ("forget_idempotencyrecord", "Can let a stored answer be forgotten"),
            ("erase_idempotencyrecord", "Can erase what is stored of a person"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.path} ({self.state})"

    @property
    def steps(self) -> list[dict[str, Any]]:
        """What the operation remembers of its steps, in their order."""
        return Journal(self.effects, self.earlier_steps, self.pk).steps

    @property
    def body(self) -> bytes | None:
        """The body of the stored answer, whether or not it is stored encoded.

        Raises:
            Undecodable
        """
        return _read(self.response_body, at_rest.of_answer(self.pk))

    @property
    def reference(self) -> str:
        """What people call the operation by, as in `Idempotency-Reference`."""
        return reference_of(self.pk)

    def is_tombstone_at(self, now: datetime) -> bool:
        """Whether a repeat is refused because its answer isn't kept any more.

        Also before the purge has made it one.
        """
        until = self.remembered_until
        has_done = self.state in (RecordState.KEPT, RecordState.EXPIRED)
        return (
            until is not None
            and with_zone(until) > now
            and (self.state == RecordState.EXPIRED or with_zone(self.expires_at) <= now)
            and (has_done or "steps" in self.effects)
        )

    @property
    def seen(self) -> str:
        """What you see of the record now, to send along with a form and to compare."""
        return seen_as(self.state, self.attempts, self.created_at)

    @property
    def last_act(self) -> str:
        """A sentence about who settled it last, and why; empty if nobody has."""
        notes = self.effects.get("settlements")
        return told(notes, gettext("%(by)s settled it: %(reason)s."))

    def settle(
        self, *, applied: bool, result: Any = None, reason: str, by: str = ""
    ) -> None:
        """Release a held operation, now that a person has found out what happened.

        `applied`: the call whose outcome was unknown has happened, and `result` is what
        its function would have returned; the client's retry goes on after it. Otherwise
        it has not happened, and the retry calls again. `by` and `reason` are recorded.
        The retention begins anew, so that the retry still belongs to this operation.

        Of an operation that was committed in the middle of its work, without steps,
        `applied` says that all of it is done: a retry gets 409 ``answer-unavailable``.

        It settles what this instance shows. If the operation was settled meanwhile, and
        is held anew because the retry's call has an unknown outcome as well, what you
        have found out is about the call before.

        Raises:
            ValueError: there is no reason, or the record is not held, or its owner still
                has a live lease, or it has changed since this instance was read.
            TypeError: the result can't be stored as JSON.
        """
        if not reason.strip():
            raise ValueError(gettext("Give a reason that says how it was found out."))
        # Where it is written, though it may have been found in a replica.
        using = router.db_for_write(type(self), instance=self)
        # Not by a manager: a project's own could join tables in.
        rows = RecordQuerySet(IdempotencyRecord, using=using).filter(pk=self.pk)
        held = rows.held().filter(attempts=self.attempts, created_at=self.created_at)
        with transaction.atomic(using=using):
            journal, rest = held.locked_journal()
            if journal is None:
                raise ValueError(_why_not_settled(self, rows.first()))
            held.write_settlement(
                journal, rest, applied=applied, result=result, by=by, reason=reason
            )
        self.refresh_from_db(using=using)
        told = partial(self.tell_settled, by=by, reason=reason, applied=applied)
        transaction.on_commit(told, using=using, robust=True)

    def tell_settled(self, *, by: str, reason: str, applied: bool) -> None:
        logger.warning(
            "idempotency settled: %s %s (%s, record %s) by %s: %s",
            self.method,
            on_one_line(self.path),
            reference_of(self.pk),
            self.pk,
            on_one_line(by) or "somebody",
            "applied" if applied else "not applied",
            extra={"action": "settled", "record_id": str(self.pk)},
        )
        signals.settled.send_robust(
            sender=IdempotencyRecord,
            record=self,
            by=by,
            reason=reason,
            applied=applied,
        )


def _why_not_settled(seen: IdempotencyRecord, row: IdempotencyRecord | None) -> str:
    if row is None:
        return gettext("The record is gone.")
    if seen.state != RecordState.HELD or row.seen == seen.seen:
        return gettext("The operation is not held, or it is still running.")
    return changed_since(
        described(seen.get_state_display(), seen.attempts),
        described(row.get_state_display(), row.attempts),
        row.last_act,
    )


def _read(stored: Any, context: str) -> bytes | None:
    return None if stored is None else at_rest.read(bytes(stored), context)


LOST_EVENT = Q(next_attempt_at=None) & (
    Q(state=EventState.RECEIVED) | Q(state=EventState.FAILED, payload__isnull=False)
)
"""As `LOST`, of a webhook event."""


class EventQuerySet(models.QuerySet["ProcessedEvent"]):
    """What people ask about events. Times are compared by the database's clock."""

    def dead(self) -> EventQuerySet:
        """Events that were given up: each waits for a person.

        So do those whose handler has ended the transaction of their claim, and so
        committed it without an end.
        """
        return self.filter(Q(state=EventState.DEAD) | LOST_EVENT)

    def due(self) -> EventQuerySet:
        """Events that the inbox's worker would take now.

        Of one object's events in an ordered inbox only the first that is not done, and
        that only if it is due itself. What another worker is taking at this moment, and
        has locked, is still among them.
        """
        if conf.distribution_of(self.db):
            return self._first_by_window()
        waiting = ProcessedEvent._base_manager.filter(
            next_attempt_at__isnull=False, is_ordered=True
        )
        of_same_object = waiting.filter(
            endpoint=OuterRef("endpoint"), object_key=OuterRef("object_key")
        )
        earlier = of_same_object.filter(
            Q(received_at__lt=OuterRef("received_at"))
            | Q(received_at=OuterRef("received_at"), pk__lt=OuterRef("pk"))
        )
        return self.filter(
            Q(is_ordered=False) | ~Exists(earlier), next_attempt_at__lte=UtcNow()
        )

    def _first_by_window(self) -> EventQuerySet:
        """As `due`, of a table that is spread: it can't be joined by an object's key."""
        of_same_object = Window(
            RowNumber(),
            partition_by=["endpoint", "object_key", "is_ordered"],
            order_by=["received_at", "pk"],
        )
        is_free = Q(is_ordered=False) | Q(place=1)
        # As an expression of the window, or the others of the object were left out.
        due_at = Case(When(is_free, then="next_attempt_at"))
        waiting = self.filter(next_attempt_at__isnull=False)
        return waiting.annotate(place=of_same_object, due_at=due_at).filter(
            due_at__lte=UtcNow()
        )

    def expired(self) -> EventQuerySet:
        """Events past their retention: what a purge would delete now.

        Never one that waits in the inbox, or for a person.
        """
        return self.filter(expires_at__lte=UtcNow(), next_attempt_at=None).exclude(
            Q(state=EventState.DEAD) | LOST_EVENT
        )


class ProcessedEvent(models.Model):
    """One webhook event: who sent it and where to, and what became of it.

    The row and the writes of its handler commit together. `next_attempt_at` is set only
    for events that wait in the inbox, so its partial indexes are small; it is the only
    indexed column here that a later update changes.
    """

    class State(models.TextChoices):
        RECEIVED = EventState.RECEIVED, _("received")
        PROCESSED = EventState.PROCESSED, _("processed")
        FAILED = EventState.FAILED, _("failed")
        IGNORED = EventState.IGNORED, _("ignored")
        DEAD = EventState.DEAD, _("dead")
        REOPENED = EventState.REOPENED, _("reopened")
        DROPPED = EventState.DROPPED, _("dropped")

    id = DigestField(
        primary_key=True,
        editable=False,
        help_text=_("Digest of endpoint, source, account and event id."),
    )
    endpoint = models.CharField(
        _("receiver"), max_length=255, help_text=_("The receiver's name in the code.")
    )
    source = models.CharField(max_length=64, help_text=_("The provider's profile."))
    account = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("Whose events these are, and of which mode: test or live."),
    )
    event_id = models.CharField(
        max_length=255,
        help_text=_("The provider's id, or its digest if the id is too long."),
    )
    event_type = models.CharField(max_length=255, blank=True, default="")
    object_key = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("What the event is about, such as the id of a payment."),
    )
    is_ordered = models.BooleanField(
        default=False,
        help_text=_("Whether it waits for earlier events of its object."),
    )
    body_digest = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(_("state"), max_length=16, choices=State.choices)
    payload = models.BinaryField(
        null=True,
        help_text=_(
            "The raw body, of a batch without the other items, perhaps encoded; cleared "
            "when the event is processed."
        ),
    )
    headers = models.JSONField(
        default=dict,
        help_text=_("The headers that the profile reads, without signatures."),
    )
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    uncounted_attempts = models.PositiveIntegerField(
        default=0,
        help_text=_(
            "Of the attempts, those that don't use up max_attempts: the event was not "
            "ready, or they were made before it was reopened."
        ),
    )
    next_attempt_at = MomentField(_("next attempt"), null=True)
    last_error = models.CharField(
        max_length=255,
        blank=True,
        default="",
        help_text=_("Class of the exception that ended the last failed attempt."),
    )
    reruns = models.JSONField(
        default=list, help_text=_("Who ran it again, or dropped it, when and why.")
    )
    history = models.JSONField(
        default=list, help_text=_("When each attempt ran, and how it ended.")
    )
    dead_since = MomentField(null=True, help_text=_("Since when it is given up."))
    occurred_at = MomentField(null=True)
    received_at = MomentField(_("received"))
    processed_at = MomentField(null=True)
    expires_at = MomentField(_("kept until"))

    objects = models.Manager.from_queryset(EventQuerySet)()

    class Meta:
        verbose_name = _("webhook event")
        verbose_name_plural = _("webhook events")
        permissions = [
            ("rerun_processedevent", "Can run a webhook event again"),
            (
                "reopen_processedevent",
                "Can let a processed webhook event run once more",
            ),
            ("drop_processedevent", "Can drop the payload of a webhook event"),
        ]
        constraints = [
            models.CheckConstraint(
                name="idempotency_event_state",
                condition=models.Q(state__in=[state.value for state in EventState]),
            ),
            # An event that was acknowledged without being done must keep its payload.
            models.CheckConstraint(
                name="idempotency_event_unfinished_has_payload",
                condition=~models.Q(
                    state__in=[EventState.IGNORED.value, EventState.DEAD.value]
                )
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
                fields=["endpoint", "next_attempt_at"],
                condition=models.Q(next_attempt_at__isnull=False),
                name="idempotency_event_due_endpoint",
            ),
            models.Index(
                fields=["endpoint", "object_key", "received_at", "id"],
                condition=models.Q(next_attempt_at__isnull=False, is_ordered=True),
                name="idempotency_event_order",
            ),
            models.Index(fields=["event_id"], name="idempotency_event_event_id"),
            models.Index(fields=["object_key"], name="idempotency_event_object"),
            models.Index(
                fields=["dead_since"],
                condition=models.Q(dead_since__isnull=False),
                name="idempotency_event_dead",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.event_type} ({self.state})"

    @property
    def body(self) -> bytes | None:
        """The payload, whether or not it is stored encoded.

        Raises:
            Undecodable
        """
        return _read(self.payload, at_rest.of_payload(self.pk))

    @property
    def seen(self) -> str:
        """What you see of the event now, to send along with a form and to compare."""
        return seen_as(self.state, self.attempts, self.received_at)

    @property
    def last_act(self) -> str:
        """A sentence about who ran, reopened or dropped it last, and why, if anybody."""
        did = (
            gettext("%(by)s dropped its payload: %(reason)s.")
            if self.state == EventState.DROPPED
            else gettext("%(by)s ran it again, or reopened it: %(reason)s.")
        )
        return told(self.reruns, did)


class OperationLink(models.Model):
    """Something that an operation or an event is found by, beside its own key.

    Written in the transaction of the operation, and only where there is such a thing.
    """

    class Kind(models.TextChoices):
        OBJECT = LinkKind.OBJECT, _("object")
        CALL = LinkKind.CALL, _("key of a call")
        REFERENCE = LinkKind.REFERENCE, _("reference")
        WORD = LinkKind.WORD, _("word of the other side")

    id = DigestField(
        primary_key=True,
        editable=False,
        help_text=_("Digest of the row, kind and value."),
    )
    row_id = DigestField(help_text=_("The id of the record or event."))
    kind = models.CharField(max_length=16, choices=Kind.choices)
    value = models.CharField(
        max_length=255,
        help_text=_(
            "A model and primary key, a derived key, or what the other side calls it."
        ),
    )
    label = models.CharField(
        max_length=255, blank=True, default="", help_text=_("The same for people.")
    )
    amount = models.CharField(max_length=64, blank=True, default="")
    result = models.TextField(
        blank=True,
        default="",
        editable=False,
        help_text=_("What the other side's word says that the call has returned."),
    )
    created_at = MomentField()
    expires_at = MomentField()

    objects = models.Manager()

    class Meta:
        verbose_name = _("link of an operation")
        verbose_name_plural = _("links of operations")
        default_permissions = ()
        indexes = [
            models.Index(fields=["row_id"], name="idempotency_link_row"),
            models.Index(fields=["value"], name="idempotency_link_value"),
            models.Index(fields=["expires_at"], name="idempotency_link_expires"),
        ]

    def __str__(self) -> str:
        return self.label or self.value


class OperationIntent(models.Model):
    """Who was the last to ask for something, whatever the key.

    Written with the claim, and only where a policy has an `intent_window`.
    """

    id = DigestField(
        primary_key=True,
        editable=False,
        help_text=_("Digest of principal, method, path and signed fingerprint."),
    )
    first_id = DigestField(help_text=_("The id of the record."))
    confirmed_id = DigestField(  # type: ignore[misc]
        null=True, help_text=_("The id of the record beside which it was confirmed.")
    )
    created_at = MomentField()
    expires_at = MomentField()

    objects = models.Manager()

    class Meta:
        verbose_name = _("intent of operations")
        verbose_name_plural = _("intents of operations")
        default_permissions = ()
        indexes = [
            models.Index(fields=["expires_at"], name="idempotency_intent_expires"),
        ]

    def __str__(self) -> str:
        return reference_of(self.first_id)


class HourlyCount(models.Model):
    """How often something happened at one endpoint within one hour.

    Added up beside the requests, and written every few seconds: never by a request.
    """

    id = DigestField(
        primary_key=True,
        editable=False,
        help_text=_("Digest of hour, endpoint, outcome and currency."),
    )
    hour = MomentField(help_text=_("When it begins, in UTC."))
    endpoint = models.CharField(
        max_length=255,
        help_text=_("Method and pattern of the URL, or the name of a receiver."),
    )
    outcome = models.CharField(
        max_length=32, help_text=_("The name of the signal that says it.")
    )
    currency = models.CharField(max_length=8, blank=True, default="")
    count = models.BigIntegerField()
    waited = models.FloatField(
        help_text=_("Seconds since each was asked for or received, in all.")
    )
    amount = models.DecimalField(
        max_digits=24,
        decimal_places=4,
        help_text=_("What the repeated answers were about, in all."),
    )

    objects = models.Manager()

    class Meta:
        verbose_name = _("count of an hour")
        verbose_name_plural = _("counts of hours")
        default_permissions = ()
        indexes = [models.Index(fields=["hour"], name="idempotency_hour")]

    def __str__(self) -> str:
        return f"{self.hour}: {self.count} {self.outcome} ({self.endpoint})"
