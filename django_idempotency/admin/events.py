"""Webhook events: read-only, but with a permission of its own to run them again."""

from __future__ import annotations

import json
import uuid
from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_idempotency.core.events import EventIdentity
from django_idempotency.models import ProcessedEvent
from django_idempotency.webhooks.inbox import rerun

from .read_only import (
    LONGEST_IN_LIST,
    ReadOnlyAdmin,
    masked_headers,
    preformatted,
    pretty,
)


class ReasonForm(ActionForm):
    reason = forms.CharField(
        required=False, label=_("reason"), help_text=_("Recorded on each event.")
    )


@admin.register(ProcessedEvent)
class ProcessedEventAdmin(ReadOnlyAdmin):
    list_display = (
        "received_at",
        "endpoint",
        "shown_type",
        "state",
        "attempts",
        "next_attempt_at",
        "expires_at",
    )
    list_filter = ("state", "expires_at")
    search_help_text = _(
        "The row's id, or endpoint, source, account and event id separated by bars: "
        "stripe|stripe|true|evt_1… Both are looked up by the primary key; parts of them "
        "are not indexed. If the receiver has an identity function, only the row's id "
        "can be found."
    )
    search_refusal = _("Search for an id, or for endpoint|source|account|event id.")
    actions = ("run_again",)
    action_form = ReasonForm
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "state",
                    "endpoint",
                    "source",
                    "account",
                    "event_id",
                    "event_type",
                    "object_key",
                    "id",
                )
            },
        ),
        (_("Payload"), {"fields": ("shown_headers", "shown_payload", "body_digest")}),
        (
            _("Life"),
            {
                "fields": (
                    "occurred_at",
                    "received_at",
                    "processed_at",
                    "expires_at",
                    "attempts",
                    "next_attempt_at",
                    "last_error",
                    "shown_reruns",
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProcessedEvent]:
        """Defer what only an event's own page shows: each can have megabytes."""
        rows: QuerySet[ProcessedEvent] = super().get_queryset(request)
        return rows.defer("payload", "headers", "reruns")

    def primary_key_in(self, term: str) -> uuid.UUID | None:
        try:
            return uuid.UUID(term)
        except ValueError:
            pass
        parts = term.split("|", 3)
        if len(parts) != 4:
            return None
        endpoint, source, account, event_id = parts
        return EventIdentity(
            endpoint=endpoint, source=source, account=account, event_id=event_id
        ).row_id

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.rerun_processedevent")

    @admin.action(permissions=["rerun"], description=_("Run the selected events again"))
    def run_again(self, request: HttpRequest, events: QuerySet[ProcessedEvent]) -> None:
        """Run them after the request's commit, each in a transaction of its own."""
        for row_id in list(events.values_list("pk", flat=True)):
            transaction.on_commit(partial(self._run_again, request, row_id))

    def _run_again(self, request: HttpRequest, row_id: uuid.UUID) -> None:
        reason = request.POST.get("reason", "")
        try:
            step = rerun(row_id, reason=reason, by=request.user.get_username())
        except (ProcessedEvent.DoesNotExist, ValueError) as error:
            self.message_user(request, f"{row_id}: {error}", messages.ERROR)
        else:
            self.message_user(request, f"{row_id}: {step.name.lower()}")

    @admin.display(description=_("type"))
    def shown_type(self, event: ProcessedEvent) -> str:
        return Truncator(event.event_type).chars(LONGEST_IN_LIST)

    @admin.display(description=_("headers"))
    def shown_headers(self, event: ProcessedEvent) -> str:
        return preformatted(masked_headers(event.headers.items()))

    @admin.display(description=_("payload"))
    def shown_payload(self, event: ProcessedEvent) -> str:
        if event.payload is None:
            return gettext("Cleared, since the event is done.")
        return preformatted(pretty(bytes(event.payload)))

    @admin.display(description=_("reruns"))
    def shown_reruns(self, event: ProcessedEvent) -> Any:
        return preformatted(json.dumps(event.reruns, indent=2, ensure_ascii=False))
